"""A depot behind SSH: sent to and read from, by a host whose key is known and by nobody else."""

from __future__ import annotations

import os

import paramiko
import pytest

from bundle.errors import InfrastructureError
from harness.vm.depot.places import Depot, NotThere, SshPlace
from harness.vm.depot.pull import Receiver
from harness.vm.depot.push import Sender
from harness.vm.depot.ssh_place import Sftp
from tests.sftp import Files
from tests.ssh_server import ssh_server
from tests.unit.harness.vm.depot.samples import SNAPSHOT, contents, make_golden, make_image

HOST_KEY = paramiko.ECDSAKey.generate()
LOGIN = paramiko.ECDSAKey.generate()


@pytest.fixture
def port():
    """Yield the port of an SSH server on loopback that shares the files of this host."""
    with ssh_server(HOST_KEY, LOGIN, Files) as (port, _):
        yield port


@pytest.fixture
def connect(tmp_path, port):
    """Return what opens the depot: with the host's key among the known ones or not, and one to log in with."""
    opened = []

    def connect(known=HOST_KEY, login=LOGIN):
        hosts = tmp_path / "known_hosts"
        hosts.write_text(f"[127.0.0.1]:{port} {known.get_name()} {known.get_base64()}\n" if known else "")
        login.write_private_key_file(str(tmp_path / "login"))
        there = Sftp("127.0.0.1", port, "someone", [hosts], [tmp_path / "login"])
        opened.append(there)
        return Depot("ssh://there/depot", SshPlace(there, str(tmp_path / "far" / "depot")))

    yield connect
    for there in opened:
        there.close()


def test_a_snapshot_goes_there_and_comes_from_there(tmp_path, monkeypatch, connect):
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / "one"))
    make_golden(make_image(mib=0), size=40_000)
    sender = Sender(connect())
    sender.golden(SNAPSHOT)
    assert sender.sent > 0
    assert (tmp_path / "far").stat().st_mode & 0o077 == 0
    again = Sender(connect())
    again.golden(SNAPSHOT)
    assert again.sent == 0
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / "two"))
    there = connect()
    assert there.keys()["golden"] == [SNAPSHOT]
    receiver = Receiver(there, (os.geteuid(), os.getegid()))
    entry = there.entry("golden", SNAPSHOT)
    receiver.image(entry.image)
    receiver.golden(entry)
    assert contents(tmp_path / "two/golden" / SNAPSHOT) == contents(tmp_path / "one/golden" / SNAPSHOT)
    with pytest.raises(NotThere):
        there.chunk("0" * 64)


@pytest.mark.parametrize("known", [None, LOGIN], ids=["unknown", "another"])
def test_a_host_with_another_key_gets_and_gives_nothing(connect, known):
    with pytest.raises(InfrastructureError, match="host key"):
        connect(known=known).keys()


def test_a_login_that_is_refused_is_told(connect):
    with pytest.raises(InfrastructureError, match="no key logs someone in"):
        connect(login=HOST_KEY).keys()


def test_a_host_that_does_not_answer_is_told():
    with pytest.raises(InfrastructureError, match="cannot list"):
        Sftp("127.0.0.1", 1, "someone", [], []).names("depot")
