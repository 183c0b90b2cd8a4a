"""The identity of a VM: key stores, the VM agent's properties, host keys."""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import pkcs12

from harness.guest.collect import Section, of_file

AGENT = "/usr/local/cloud/systemvm"
KEYSTORE = f"{AGENT}/conf/cloud.jks"
TRUSTSTORE = f"{AGENT}/certs/realhostip.keystore"
PROPERTIES = f"{AGENT}/conf/agent.properties"
# CloudStack's fixed password of the trust store; it protects nothing, the entries are public certificates.
TRUSTSTORE_PASSWORD = "vmops.com"  # noqa: S105
_JKS = 0xFEEDFEED
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class Identity:
    """Entries by name with a digest each; None where the file does not exist.

    A store that cannot be opened counts as one entry, the digest of the whole file.
    """

    keystore: Mapping[str, str] | None
    truststore: Mapping[str, str] | None
    properties: Mapping[str, str] | None
    host_keys: Mapping[str, str]


def commands() -> dict[str, str]:
    """Return the commands that :func:`parse` reads."""
    return {
        "identity.keystore": of_file(KEYSTORE),
        "identity.truststore": of_file(TRUSTSTORE),
        "identity.properties": of_file(PROPERTIES),
        "identity.host-keys": "cd /etc/ssh && sha256sum -- ssh_host_*_key ssh_host_*_key.pub",
    }


def parse(sections: Mapping[str, Section]) -> Identity:
    """Turn the outputs of :func:`commands` into an identity."""
    properties = sections["identity.properties"]
    known = parse_properties(properties.text) if properties.status == 0 else None
    password = (known or {}).get("keystore.passphrase", "")
    host_keys = (line.split(None, 1) for line in sections["identity.host-keys"].text.splitlines())
    return Identity(
        keystore=_store(sections["identity.keystore"], password),
        truststore=_store(sections["identity.truststore"], TRUSTSTORE_PASSWORD),
        properties=known,
        host_keys={name: digest for digest, name in host_keys},
    )


def parse_properties(text: str) -> dict[str, str]:
    """Return the keys and values of a Java properties file of the simple kind; a later line wins."""
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if line and line[0] not in "#!")
    return {key.strip(): value.strip() for key, _, value in pairs}


def _store(section: Section, password: str) -> dict[str, str] | None:
    return store_entries(section.output, password) if section.status == 0 else None


def store_entries(data: bytes, password: str) -> dict[str, str]:
    """Return the entries of a key store (JKS, PKCS #12 or PEM) as digests of their certificates by alias."""
    if data[:4] == _JKS.to_bytes(4, "big"):
        try:
            return dict(_jks_entries(data))
        except (struct.error, UnicodeDecodeError, IndexError):
            return _whole(data)
    if certificates := _PEM.findall(data):
        ders = [base64.b64decode(b"".join(body.split())) for body in certificates]
        return {f"certificate {_digest(der)[:16]}": _digest(der) for der in ders}
    return _pkcs12_entries(data, password)


def _pkcs12_entries(data: bytes, password: str) -> dict[str, str]:
    try:
        store = pkcs12.load_pkcs12(data, password.encode())
    except ValueError:
        return _whole(data)
    found = [*store.additional_certs, *([store.cert] if store.cert else [])]
    entries = {}
    for number, entry in enumerate(found):
        name = (entry.friendly_name or f"entry {number}".encode()).decode("utf-8", "backslashreplace")
        entries[name] = entry.certificate.fingerprint(hashes.SHA256()).hex()
    return entries


def _jks_entries(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield alias and digest of each entry of a JKS: aliases and certificates are in the clear there."""
    offset = 12
    version, count = struct.unpack_from(">II", data, 4)

    def take(form: str) -> bytes:
        nonlocal offset
        (size,) = struct.unpack_from(form, data, offset)
        offset += struct.calcsize(form)
        if offset + size > len(data):
            raise IndexError(offset)
        offset += size
        return data[offset - size : offset]

    for _ in range(count):
        (tag,) = struct.unpack_from(">I", data, offset)
        offset += 4
        alias = take(">H").decode()
        offset += 8  # time stamp
        chain = 1
        if tag == 1:
            take(">I")  # the private key, encrypted anew whenever the store is saved
            (chain,) = struct.unpack_from(">I", data, offset)
            offset += 4
        certificates = b""
        for _ in range(chain):
            if version == 2:
                take(">H")
            certificates += take(">I")
        yield alias, _digest(certificates)


def _whole(data: bytes) -> dict[str, str]:
    return {"the whole file": _digest(data)}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
