"""Far ends of a shipped network in namespaces of their own: they run the daemons that the harness gives a far end.

They start from the harness' own scripts (``harness/vm/far_daemons.py``), with this machine's programs instead of a
template's. IPsec is strongSwan's own in user space, which any kernel allows: keys are exchanged and tunnels made by
both ends. What flows through them, and L2TP with pppd, needs the kernel's, and is proven on VMs (S57).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace

from harness.network import Orders, far_ends
from harness.vm import far_daemons
from harness.vm.around import around
from tests.guest.rules.testbed import RouterTestbed, Space, eventually

ROOT = "/mnt/root"
# A copy of this machine's files in front of which a host writes its own, as those of a tenant guest have it.
COPY = f"""
    mount -t tmpfs tmpfs /tmp
    mount -t tmpfs tmpfs /mnt
    mkdir -p /mnt/changed /mnt/work {ROOT}
    mount -t overlay -o lowerdir=/,upperdir=/mnt/changed,workdir=/mnt/work overlay {ROOT}
    mount -t proc proc {ROOT}/proc
    mount --rbind /dev {ROOT}/dev
    mount -t tmpfs tmpfs {ROOT}/run
    sed -i 's/load = no/load = yes/' {ROOT}/etc/strongswan.d/charon/kernel-libipsec.conf
"""


@dataclass(frozen=True)
class FarEnd:
    """A host of the laboratory that runs what a tenant's host would."""

    space: Space

    def run(self, script: str, *, deadline: float = 60.0, check: bool = True) -> SimpleNamespace:
        """Run a script of the harness."""
        here = script.replace("in-template", f"chroot {ROOT}").replace("/copy/root", ROOT)
        done = self.space.run("busybox", "sh", "-c", here, check=check, timeout=deadline)
        return SimpleNamespace(stdout=done.stdout)


def started(lab: RouterTestbed, orders: Orders) -> dict[str, FarEnd]:
    """Start the far ends of a network, but for those that log in."""
    declared = replace(orders.network, vpn=None)
    ends = {outsider.name for outsider, _ in (*far_ends.sites(declared), *far_ends.neighbours(declared))}
    hosts = {}
    for host in around(declared).tenants[0].hosts:
        if host.name not in ends:
            continue
        space = lab.vm(host.mac, bridge=f"br-{host.device}")
        behind = "; ".join(f"ip address add {address} dev lo" for address in host.extra)
        space.sh(f"ip link set lo up; ip address add {host.address} dev eth0; {behind}; {COPY}")
        hosts[host.name] = FarEnd(space)
    far_daemons.start(SimpleNamespace(tenants=hosts), declared)
    return hosts


def tunnels_stand(lab: RouterTestbed, orders: Orders) -> None:
    """Require that the other site and the router agree on keys for their networks."""
    for host in started(lab, orders).values():
        status = partial(host.run, "in-template /usr/sbin/ipsec status site", check=False)
        assert eventually(lambda status=status: "INSTALLED" in status().stdout, 20), status().stdout
    seen = lab.router.run("ipsec", "status", "vpn-198.51.100.99").stdout
    assert "10.40.0.0/16 === 10.8.0.0/16 10.9.0.0/16" in seen


def neighbours_learn(lab: RouterTestbed, orders: Orders) -> None:
    """Require that a neighbour in BGP and the router learn each other's networks."""
    tiers = {str(nic.address.network) for nic in orders.network.inside}
    for host in started(lab, orders).values():

        def learned(host: FarEnd = host) -> bool:
            lines = host.space.sh("ip route show via 198.51.100.10").stdout.splitlines()
            own = lab.router.sh("ip route show proto bgp").stdout
            return {line.split()[0] for line in lines} >= tiers and str(far_ends.ANNOUNCED) in own

        assert eventually(learned, 20), host.run("in-template vtysh -c 'show bgp summary'").stdout


def machines_take_addresses(lab: RouterTestbed, orders: Orders) -> None:
    """Require that a machine has the address which the router's advertisements give it."""
    for machine in orders.network.machines:
        vm = lab.vm(machine.mac, bridge="br-eth0")
        own = f"inet6 {machine.address6}/"
        assert eventually(lambda vm=vm, own=own: own in vm.sh("ip -6 address show dev eth0").stdout, 20)


# What is to be seen of a network's daemons from the other end, by its name.
PROOFS = {"vpn": tunnels_stand, "vpc-routed": neighbours_learn, "router-ipv6": machines_take_addresses}
