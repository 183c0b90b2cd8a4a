"""Tenants of a shipped network in namespaces: each runs the very programs of a host of the tenant guest.

So whatever a network declares is tried from every side as on a virtual machine, apart from what comes by loopback.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

from harness.network import Network
from harness.network.flows import flows
from harness.traffic import proofs
from harness.vm.around import around
from harness.vm.tenant.tenant import Tenant, TenantHost, Transit
from tests.guest.rules.testbed import RouterTestbed, Space, connect, eventually

ROOT = "/mnt/root"
_PROGRAMS = {"host.sh": "host", "peer.sh": "peer", "udhcpc.sh": "udhcpc.script", "transit.sh": "transit"}
# Its files are busybox and the programs of a host, and nothing of this machine.
_TREE = f"""
    mount -t tmpfs tmpfs /mnt
    mkdir -p {ROOT}/bin {ROOT}/dev {ROOT}/proc {ROOT}/etc {ROOT}/tmp {ROOT}/run/hosts
    cp /bin/busybox {ROOT}/bin/
    chroot {ROOT} /bin/busybox --install -s /bin
    mount -t proc proc {ROOT}/proc
    mount --rbind /dev {ROOT}/dev
"""
# Seconds for a proof: nothing here is emulated.
DEADLINE = 15.0


class Direct:
    """The control port of hosts that need none."""

    def __init__(self, spaces: dict[str, Space]) -> None:
        self.spaces = spaces

    def ask(self, host: str, script: str, deadline: float) -> tuple[int, str]:
        """Run a script on a host and return its status and output, as a shell does."""
        command = ("chroot", ROOT, "/bin/sh", "-c", f"exec 2>&1; {script}")
        done = self.spaces[host].run(*command, check=False, timeout=deadline)
        return done.status, done.stdout.rstrip("\n")


def _host(lab: RouterTestbed, host: TenantHost) -> Space:
    space = lab.vm(host.mac, bridge=f"br-{host.device}")
    _started(lab, space, host.name, ("hosts", host.line("eth0")), "host", "eth0")
    return space


def _transit(lab: RouterTestbed, transit: Transit) -> None:
    first, second = transit.devices
    space = lab.vm(transit.macs[0], bridge=f"br-{first}")
    port = f"t-{second}"
    connect(lab.lan, port, space, "eth1", transit.macs[1])
    lab.lan.sh(f"ip link set {port} master br-{second} up")
    _started(lab, space, transit.name, ("transits", transit.line("eth0", "eth1")), "transit", "eth0", "eth1")


def _started(
    lab: RouterTestbed, space: Space, name: str, row: tuple[str, str], program: str, *devices: str
) -> None:
    """Start one of the programs of the tenant guest, with its row in its file, and wait until it is up."""
    space.sh(_TREE)
    for source, target in _PROGRAMS.items():
        text = (files("harness.vm.tenant") / "guest" / source).read_text()
        space.write(f"{ROOT}/bin/{target}", text)
        space.run("chmod", "755", f"{ROOT}/bin/{target}")
    file, line = row
    space.write(f"{ROOT}/{file}", line + "\n")
    lab.stack.enter_context(space.background("chroot", ROOT, "/bin/sh", f"/bin/{program}", name, *devices))
    assert eventually(lambda: Path(f"/proc/{space.pid}/root{ROOT}/run/hosts/{name}.up").exists())


def beside(lab: RouterTestbed, network: Network) -> SimpleNamespace:
    """Return what proofs see of a VM: its tenants, and a host that is not busy."""
    specs = around(network).tenants
    spaces = {host.name: _host(lab, host) for spec in specs for host in spec.hosts}
    for transit in (row for spec in specs for row in spec.transits):
        _transit(lab, transit)
    tenants = {name: Tenant(name, Direct(spaces)) for name in spaces}
    return SimpleNamespace(tenants=tenants, machine=SimpleNamespace(stretch=lambda: lambda: 1.0))


def require_rules(lab: RouterTestbed, network: Network) -> None:
    """Require that everything a network declares is kept, tried from each of its hosts."""
    vm = beside(lab, network)
    limit = proofs._Limit(DEADLINE, vm.machine.stretch)
    found = [proofs._attempt(name, request, limit) for name, request in proofs._requests(vm, network)]
    found += proofs._prove_flows(vm, [flow for flow in flows(network) if flow.source], limit)
    assert found
    assert [proof for proof in found if proof.reason] == []
