"""Which libvirt is talked to."""

from __future__ import annotations

import libvirt
import pytest

from bundle.errors import UsageError
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
