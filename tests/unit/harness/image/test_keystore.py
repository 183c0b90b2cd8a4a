import hashlib
import struct

import pytest

from bundle.errors import InfrastructureError
from harness.image.keystore import normalized


def text(value):
    return struct.pack(">H", len(value)) + value


def store(*entries, password="changeit", tag=2):
    body = struct.pack(">III", 0xFEEDFEED, 2, len(entries))
    for alias, added, certificate in entries:
        body += struct.pack(">I", tag) + text(alias) + struct.pack(">Q", added) + text(b"X.509")
        body += struct.pack(">I", len(certificate)) + certificate
    return body + hashlib.sha1(password.encode("utf-16-be") + b"Mighty Aphrodite" + body).digest()


def test_only_names_and_certificates_decide_the_bytes():
    one = store((b"b", 111, b"certificate b"), (b"a", 222, b"certificate a"))
    two = store((b"a", 333, b"certificate a"), (b"b", 444, b"certificate b"))
    assert (
        normalized(one, 5)
        == normalized(two, 5)
        == store((b"a", 5000, b"certificate a"), (b"b", 5000, b"certificate b"))
    )


def test_an_empty_store_stays_one():
    assert normalized(store(), 5) == store()


@pytest.mark.parametrize(
    "data", [b"", b"PKCS12" * 10, store((b"a", 1, b"c"), password="other"), store((b"a", 1, b"c"))[:-1]]
)
def test_what_does_not_open_is_refused(data):
    with pytest.raises(InfrastructureError, match="no JKS store that opens"):
        normalized(data, 5)


def test_private_keys_are_refused():
    with pytest.raises(InfrastructureError, match="private keys"):
        normalized(store((b"a", 1, b"c"), tag=1), 5)
