"""Which libvirt is talked to."""

from __future__ import annotations

import os
from contextlib import ExitStack

import libvirt
import pytest

from bundle.errors import InfrastructureError, UsageError
from harness.host import hypervisor


@pytest.mark.parametrize("uri", ["qemu+ssh://root@elsewhere/system", "qemu+tcp://192.0.2.1:16509/system"])
def test_a_libvirt_on_another_machine_is_refused_before_anything_is_made(uri, monkeypatch):
    monkeypatch.setenv("SYSVM_LIBVIRT_URI", uri)
    with pytest.raises(UsageError, match="another machine's") as refusal, hypervisor.hypervisor():
        pass
    assert refusal.value.exit_status == 2


@pytest.mark.parametrize(
    "uri", ["qemu:///session", "qemu+unix:///system?socket=/run/x", "qemu+ssh://root@localhost/system"]
)
def test_a_libvirt_on_this_machine_is_not(uri):
    hypervisor.require_local(uri)


def test_a_connection_is_closed_however_its_use_ends():
    def fail():
        raise KeyError("in the middle")

    # libvirt's own driver for tests: a host in memory.
    with pytest.raises(KeyError), hypervisor.hypervisor("test:///default") as host:
        assert host.connection.getHostname()
        fail()
    with pytest.raises(libvirt.libvirtError):
        host.connection.getHostname()


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has a private daemon")


@needs_root
def test_daemons_of_two_run_folders_live_side_by_side_and_do_not_see_each_other(tmp_path, monkeypatch):
    uris = []
    with ExitStack() as hosts:
        for name in ("one", "two"):
            monkeypatch.setenv("SYSVM_STATE", str(tmp_path / name))
            monkeypatch.setattr(hypervisor, "_open_system", lambda: None)
            host = hosts.enter_context(hypervisor.hypervisor())
            assert host.private
            uris.append(host.uri)
            assert (tmp_path / name / "libvirt" / "run" / "qemu").is_dir()
        assert len(set(uris)) == 2


@needs_root
def test_daemon_that_ends_at_once_is_told_with_its_own_words(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "libvirtd"
    program.parent.mkdir()
    lines = [
        "info : libvirt version: 9.0.0",
        "error : start:1 : the lock is held",
        "error : run:2 : it failed",
    ]
    told = "".join(f"echo '12:00:00+0000: 7: {line}'\n" for line in lines)
    program.write_text(f"#!/bin/sh\n{told}exit 6\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SYSVM_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(hypervisor, "_open_system", lambda: None)
    said = r"libvirtd ended with status 6: start:1 : the lock is held \("
    with pytest.raises(InfrastructureError, match=said), hypervisor.hypervisor():
        pass
