"""Segments as bridges in a network namespace: what QEMU is told, who is refused, and that frames pass between taps.

Where this process may make namespaces, bridges and taps are real; only QEMU is played, by whoever holds the taps.
"""

from __future__ import annotations

import os
import select
import socket
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from bundle.errors import InfrastructureError, UsageError
from harness import network
from harness.cli import run as run_command
from harness.machine import accel, domain
from harness.machine.domain import Nic
from harness.vm import backends, taps
from harness.vm.around import around
from harness.vm.cables import UserNet
from harness.vm.loopback import Loopback
from harness.vm.taps import BridgeCable, Taps
from harness.vm.wiring import wire

NEAR = BridgeCable("sysvm-a1b2c3-x", "eth0")
RUN = f"{os.getpid():x}"
FRAME = bytes.fromhex("ffffffffffff 020000000001 88b5") + b"who is there?".ljust(46, b"\0")


def nics_of(plan, backend):
    """Return the host sides of the NICs of a router and of its tenant guest, on a backend's segments."""
    wiring = wire(plan, backend, "sysvm-a1b2c3-x")
    wiring.ports.release()
    return [nic.backend for nic in wiring.nics], [nic.backend for nic in wiring.tenants["tenants"]]


def test_the_far_side_of_a_nic_is_a_hub_that_a_tap_can_join():
    assert NEAR.arguments("net2") == ["-netdev", "hubport,id=net2,hubid=0"]
    assert BridgeCable("n", "eth11").arguments("net0") == ["-netdev", "hubport,id=net0,hubid=11"]


def test_the_guest_has_the_same_devices_as_on_loopback():
    plan = around(network.load("router"))
    devices = []
    for backend in (Loopback(), Taps()):
        ends, _ = nics_of(plan, backend)
        nics = tuple(Nic(nic.mac, end, 0x10) for nic, end in zip(plan.nics, ends, strict=True))
        spec = domain.DomainSpec("d", "u", accel.TCG, None, None, nics=nics)
        devices.append([word for word in spec.qemu_arguments() if word.startswith("virtio-net-pci")])
    assert devices[0] == devices[1] != []


def test_every_segment_of_a_router_is_a_bridge_and_its_control_nic_none():
    near, far = nics_of(around(network.load("router")), Taps())
    assert [type(end) for end in near] == [BridgeCable, UserNet, BridgeCable]
    assert {end.end for end in near if isinstance(end, BridgeCable)} == {"vm"}
    taps_of_tenants = {end.tap for end in far if isinstance(end, BridgeCable)}
    assert taps_of_tenants == {"eth0-tenants", "eth2-tenants"}
    hubs = {end.arguments("n")[1].rsplit("hubid=")[1] for end in far if not isinstance(end, UserNet)}
    assert hubs == {"0", "2"}


def test_the_other_router_of_a_pair_has_a_tap_of_its_own_on_the_bridge():
    peer = Taps().cable("n", "eth0", lambda: 20000, "peer")
    one = Taps().cable("n", "eth0", lambda: 20000)
    assert (peer.name, peer.tap, one.tap) == ("br-eth0", "eth0-peer", "eth0-vm")
    assert peer.other_end == one.other_end


def test_the_longest_names_fit_into_the_kernel():
    longest = BridgeCable("n", f"eth{len(network.load('vpc').nics) + 11}").other_end
    assert max(len(longest.name), len(longest.tap)) < 16


@pytest.fixture
def capable(monkeypatch):
    """Let this process look as if it could make taps."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(taps.shutil, "which", lambda _program: "/sbin/ip")
    monkeypatch.setattr(taps, "_TUN", SimpleNamespace(is_char_device=lambda: True))
    monkeypatch.delenv(backends.VARIABLE, raising=False)


@pytest.mark.usefixtures("capable")
def test_segments_are_on_loopback_unless_somebody_says_otherwise(monkeypatch):
    assert backends.find().name == "loopback"
    assert backends.find("taps").name == "taps"
    monkeypatch.setenv(backends.VARIABLE, "taps")
    assert backends.find().name == "taps"
    assert backends.find("loopback").name == "loopback"


@pytest.mark.usefixtures("capable")
def test_an_unknown_backend_is_refused_by_its_source(monkeypatch):
    with pytest.raises(UsageError, match=r"invalid network backend 'ovs' \(expected loopback or taps\)"):
        backends.find("ovs")
    monkeypatch.setenv(backends.VARIABLE, "ovs")
    with pytest.raises(UsageError, match="invalid SYSVM_NETWORK_BACKEND 'ovs'"):
        backends.find()


@pytest.mark.usefixtures("capable")
@pytest.mark.parametrize(
    ("owner", "name", "value", "said"),
    [
        (os, "geteuid", lambda: 1000, "is for root only"),
        (taps.shutil, "which", lambda _program: None, r"needs the program ip \(Debian package iproute2\)"),
        (taps, "_TUN", taps.Path("/dev/null/tun"), r"needs /dev/null/tun \(kernel module tun\)"),
    ],
)
def test_what_is_missing_is_said_in_one_line(monkeypatch, owner, name, value, said):
    monkeypatch.setattr(owner, name, value)
    with pytest.raises(UsageError, match=f"^network backend 'taps' {said}$"):
        backends.find("taps")
    assert backends.find("loopback").name == "loopback"


@pytest.mark.usefixtures("capable")
def test_a_run_is_refused_before_it_begins(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(run_command.run, ["--network-backend", "taps"], standalone_mode=False)
    assert isinstance(ended.exception, UsageError)
    assert list(tmp_path.iterdir()) == []


class Played:
    """A machine whose QEMU is this test: keeps the taps that it is given, and what its monitor was told."""

    def __init__(self, name="sysvm-played"):
        self.name, self.told, self.tap = name, [], -1

    def hand_over(self, descriptor, name):
        self.told.append(("getfd", name))
        self.tap = os.dup(descriptor)

    def monitor(self, command, **arguments):
        self.told.append((command, arguments))


@pytest.fixture
def namespaces():
    """Yield the names of two namespaces that may be made; they are gone afterwards."""
    try:
        backends.find("taps")
        names = [f"sysvm-{RUN}-{vm}" for vm in ("one", "two")]
        Taps().lay([BridgeCable(names[0], "eth0")])
    except (UsageError, InfrastructureError) as error:
        pytest.skip(str(error))
    yield names
    backends.remove_all(f"sysvm-{RUN}-*")
    assert not list(taps.NAMESPACES.glob(f"sysvm-{RUN}-*"))


@pytest.fixture
def plugged():
    """Plug a played machine into the end of a cable; the taps are closed afterwards."""
    machines = []

    def plug(end):
        machines.append(Played())
        Taps().lay([end])
        Taps().plug(machines[-1], [Nic("02:00:00:00:00:01", end, 0x10), Nic("02:00:00:00:00:02", end, 0x11)])
        return machines[-1]

    yield plug
    for machine in machines:
        os.close(machine.tap)


def arrived(machine, seconds):
    """Say whether the frame came out of a machine's tap."""
    while select.select([machine.tap], [], [], seconds)[0]:
        if os.read(machine.tap, 2048) == FRAME:
            return True
    return False


def test_a_frame_crosses_its_own_bridge_and_no_other(namespaces, plugged):
    one, two = (BridgeCable(namespace, "eth0") for namespace in namespaces)
    router, tenants, stranger = plugged(one), plugged(one.other_end), plugged(two)
    os.write(router.tap, FRAME)
    assert arrived(tenants, 5.0)
    assert not arrived(stranger, 0.1)
    assert not {name for _, name in socket.if_nameindex()} & {one.name, one.tap, one.other_end.tap}


def test_only_an_owner_of_segments_has_a_namespace_to_look_at(namespaces):
    assert [Taps().describe(name) for name in (namespaces[0], "sysvm-nobody")] == [namespaces[0], None]


def test_qemu_is_given_one_tap_a_segment_and_joins_it_to_the_hub(namespaces, plugged):
    machine = plugged(BridgeCable(namespaces[0], "eth3"))
    assert machine.told == [
        ("getfd", "eth3-vm"),
        ("netdev_add", {"type": "tap", "id": "eth3-vm", "fd": "eth3-vm"}),
        ("netdev_add", {"type": "hubport", "id": "eth3-vm-port", "hubid": 3, "netdev": "eth3-vm"}),
    ]


def test_a_machine_that_was_started_again_is_joined_to_its_own_bridges(namespaces, plugged):
    tenants = plugged(BridgeCable(namespaces[0], "eth0").other_end)
    again = Played(namespaces[0])
    backends.rejoin(again)
    try:
        assert again.told == [
            ("getfd", "eth0-vm"),
            ("netdev_add", {"type": "tap", "id": "eth0-vm", "fd": "eth0-vm"}),
            ("netdev_add", {"type": "hubport", "id": "eth0-vm-port", "hubid": 0, "netdev": "eth0-vm"}),
        ]
        os.write(again.tap, FRAME)
        assert arrived(tenants, 5.0)
    finally:
        os.close(again.tap)


def test_a_machine_without_segments_of_its_own_is_joined_to_none(namespaces):
    machine = Played(f"{namespaces[0]}-tenants")
    backends.rejoin(machine)
    assert machine.told == []


def test_what_the_kernel_refuses_is_told(namespaces, plugged):
    plugged(BridgeCable(namespaces[0], "eth0"))
    with pytest.raises(InfrastructureError, match=f"network namespace {namespaces[0]}: .*busy"):
        Taps().plug(Played(), [Nic("02:00:00:00:00:01", BridgeCable(namespaces[0], "eth0"), 0x10)])
