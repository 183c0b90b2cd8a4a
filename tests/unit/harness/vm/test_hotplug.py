"""NICs that are plugged into running machines: what QEMU is told, and that a guest which finds none is no success."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bundle.errors import InfrastructureError
from harness.guest.connection import SshCommandResult
from harness.machine.domain import Nic
from harness.vm import hotplug
from harness.vm.cables import HostForward, UserNet
from harness.vm.loopback import Loopback, UdpCable
from harness.vm.tenant.tenant import TenantHost

MAC = "02:00:5b:1c:00:01"


class Monitor:
    """Remembers what QEMU was told; stands for a machine, which needs libvirt (the real one is in tests/e2e)."""

    name = "sysvm-a1-vpc"

    def __init__(self, says="", present=("nic0",)):
        self.told, self._says, self._present = [], says, present

    def monitor(self, command, **arguments):
        self.told.append((command, arguments))
        if command == "qom-list":
            return [{"name": name} for name in self._present]
        return self._says if command == "human-monitor-command" else None


def router(machine, addresses, unplugged=()):
    """Return a VM whose guest shows the given MAC addresses, one a question."""
    answers = iter(addresses)
    guest = SimpleNamespace(run=lambda command, check: SshCommandResult(command, 0, next(answers), "", 0.0))
    nics = ("control", *unplugged)
    return SimpleNamespace(
        name="vpc", machine=machine, backend=Loopback(), guest=guest, unplugged=unplugged,
        topology=SimpleNamespace(nics=nics), tenant_machines={"tenants": machine},
    )  # fmt: skip


def test_a_nic_comes_with_the_netdevs_of_the_command_line_into_its_slot():
    user = UserNet("192.0.2.0/24", "192.0.2.1", (HostForward(20080, "192.0.2.10", 80),))
    machine = Monitor()
    vm = router(machine, ["", f"{MAC}\n"], (Nic(MAC, user, 0x11),))
    hotplug.plug(vm, "eth1")
    (netdev, line), (device, arguments) = machine.told
    assert (netdev, line["command-line"]) == ("human-monitor-command", f"netdev_add {user.netdev('net1')}")
    assert device == "device_add"
    assert (arguments["netdev"], arguments["mac"], arguments["addr"]) == ("net1", MAC, "0x11")
    assert vm.unplugged == ()


@pytest.mark.parametrize(("unplugged", "due"), [((Nic(MAC, UdpCable(1, 2), 0x11),), "eth1"), ((), "none")])
def test_nics_are_plugged_in_in_their_order(unplugged, due):
    vm = router(Monitor(), [], unplugged)
    with pytest.raises(InfrastructureError, match=f"the next NIC to plug in is {due}, not eth2"):
        hotplug.plug(vm, "eth2")
    assert vm.machine.told == []


def test_what_qemu_refuses_is_told():
    vm = router(Monitor(says="Error: no such thing\r\n"), [], (Nic(MAC, UdpCable(1, 2), 0x11),))
    with pytest.raises(InfrastructureError, match=f"QEMU refuses the NIC {MAC}: Error: no such thing"):
        hotplug.plug(vm, "eth1")


def test_a_guest_that_finds_another_nic_is_told(monkeypatch):
    monkeypatch.setattr(hotplug, "DEADLINE", 0.0)
    vm = router(Monitor(), ["02:00:00:00:00:99"], (Nic(MAC, UdpCable(1, 2), 0x11),))
    with pytest.raises(InfrastructureError, match="it has 02:00:00:00:00:99"):
        hotplug.plug(vm, "eth1")


def test_a_tier_gets_the_next_device_or_none():
    vm = router(Monitor(present=("nic0", "nic1", "channel0", "nicely")), [])
    host = TenantHost("app", "02:00:5b:1c:01:01", "eth5", "10.20.3.50")
    with pytest.raises(InfrastructureError, match="the next NIC is eth2, not eth5"):
        hotplug.plug_tier(vm, MAC, host)
