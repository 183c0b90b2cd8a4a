"""The NFS server of storage tests: there while it is needed, and said to be missing where it is not installed."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bundle.errors import InfrastructureError
from harness.site import nfs


@pytest.mark.skipif(not nfs.installed(), reason="the NFS server nfs-ganesha is not installed")
def test_a_server_serves_until_it_is_left_and_keeps_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYSVM_STATE", str(tmp_path / "state"))
    with nfs.serve(tmp_path) as port:
        socket.create_connection(("127.0.0.1", port)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert "NFS EXIT" in (tmp_path / "ganesha.log").read_text()


def test_a_host_without_the_server_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nfs, "PROGRAM", "no-such-server")
    with pytest.raises(InfrastructureError, match="no-such-server is missing"), nfs.serve(tmp_path):
        pytest.fail("it serves")
