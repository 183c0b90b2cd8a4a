"""Host keys of VMs that somebody else started, and a server on loopback that shows one."""

import paramiko
import pytest

from bundle.errors import UsageError
from harness.guest.guest import SshGuest
from harness.guest.host_keys import HostKeyRefused, fingerprint, read_check
from tests.ssh_server import ssh_server

KEY, OTHER = (paramiko.ECDSAKey.generate() for _ in range(2))
HOST, PORT, PLACE = "10.0.0.1", 3922, "[10.0.0.1]:3922"


def known(tmp_path, *lines):
    path = tmp_path / "known_hosts"
    path.write_text("".join(f"{line}\n" for line in lines))
    return [path]


def line(key, place=PLACE, mark=""):
    return f"{mark}{place} {key.get_name()} {key.get_base64()}"


def check(files, *host_keys, trust_first=False, names=("r-1-VM",)):
    return read_check(host_keys, trust_first=trust_first, names=names, files=files)


def test_a_known_key_is_taken_also_where_the_host_is_hashed(tmp_path):
    check(known(tmp_path, line(KEY))).check("r-1-VM", HOST, PORT, KEY)
    hashed = paramiko.HostKeys.hash_host(PLACE)
    check(known(tmp_path, line(KEY, hashed))).check("r-1-VM", HOST, PORT, KEY)


def test_an_unknown_host_is_refused_with_its_fingerprint_and_what_to_do(tmp_path):
    with pytest.raises(HostKeyRefused, match="is not known") as error:
        check([tmp_path / "absent"]).check("r-1-VM", HOST, PORT, KEY)
    assert fingerprint(KEY) in str(error.value)
    assert "--host-key" in error.value.hint


@pytest.mark.parametrize("trust_first", [False, True])
def test_a_changed_key_is_refused_also_by_who_trusts_the_first(tmp_path, trust_first):
    with pytest.raises(HostKeyRefused, match="not the one that is known"):
        check(known(tmp_path, line(KEY)), trust_first=trust_first).check("r-1-VM", HOST, PORT, OTHER)


def test_a_revoked_key_is_refused(tmp_path):
    revoking = check(known(tmp_path, line(KEY, "*", "@revoked ")), fingerprint(KEY))
    with pytest.raises(HostKeyRefused, match="revoked"):
        revoking.check("r-1-VM", HOST, PORT, KEY)


def test_the_first_key_is_the_only_one_that_is_trusted():
    trusting = check([], trust_first=True)
    trusting.check("r-1-VM", HOST, PORT, KEY)
    trusting.check("r-1-VM", HOST, PORT, KEY)
    with pytest.raises(HostKeyRefused, match="was SHA256:"):
        trusting.check("r-1-VM", HOST, PORT, OTHER)


def test_a_named_key_counts_for_its_vm_alone():
    named = check([], f"r-1-VM={fingerprint(KEY)}", names=("r-1-VM", "r-2-VM"))
    named.check("r-1-VM", HOST, PORT, KEY)
    for name, key in (("r-1-VM", OTHER), ("r-2-VM", KEY)):
        with pytest.raises(HostKeyRefused):
            named.check(name, HOST, PORT, key)


@pytest.mark.parametrize(
    "text",
    ["SHA256:short", "MD5:aa", f"r-9-VM={fingerprint(KEY)}", fingerprint(KEY)],
    ids=["short", "md5", "of another VM", "of no VM"],
)
def test_a_host_key_that_cannot_be_meant_is_refused(text):
    with pytest.raises(UsageError, match="--host-key"):
        check([], text, names=("r-1-VM", "r-2-VM"))


def test_the_known_kind_of_key_is_asked_for_first(tmp_path):
    asked = check(known(tmp_path, line(KEY))).algorithms(
        HOST, PORT, ["ssh-ed25519", "rsa-sha2-512", KEY.get_name()]
    )
    assert asked == [KEY.get_name(), "ssh-ed25519", "rsa-sha2-512"]


@pytest.fixture
def server():
    """Yield the port of an SSH server whose host key is KEY, and what logins it has seen."""
    with ssh_server(KEY) as (port, door):
        yield port, door.tried


def connection(tmp_path, port, host_keys):
    OTHER.write_private_key_file(str(tmp_path / "login"))
    guest = SshGuest("r-1-VM", "127.0.0.1", port, tmp_path / "login")
    guest.host_keys = host_keys
    return guest


def test_a_stranger_is_refused_at_once_and_never_logged_in_to(tmp_path, server):
    port, tried = server
    guest = connection(tmp_path, port, check([], fingerprint(OTHER)))
    with pytest.raises(HostKeyRefused):
        guest.connect(30)
    assert not tried
    assert not guest.connected


def test_who_shows_the_right_key_is_logged_in_to(tmp_path, server):
    port, tried = server
    with connection(tmp_path, port, check(known(tmp_path, line(KEY, f"[127.0.0.1]:{port}")))) as guest:
        guest.connect(30)
        assert guest.connected
    assert tried == ["root"]
