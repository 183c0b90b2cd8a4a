"""A cloud in memory: system VMs that can be patched, fail, lie and hang, and a server that manages them.

It stands in for virtual machines, which a unit test cannot boot, and only for them: the management code under test is
the real one, and so is the agent's, down to the parsing of the script's line. What is simulated is what a guest does
when one of the commands of CONTRACT.md 4.3 arrives over SSH.

A first test
------------
Make a cloud, put VMs in it, and call the server::

    cloud = Cloud()
    router = cloud.router("r-1-VM", networks=("net",))
    cloud.inventory.add(NetworkRow("net", declared=network.load()))
    cloud.server.restart_network("net", live_patch=True)
    assert router.signature == cloud.bundle.signature

Misbehaviour
------------
A VM does what its fields say, at the moment at which a real one would::

    router.fails = "haproxy is not active"     # the script ends with status 1 and says this
    router.says = "hello\n"                    # printed before the version line
    router.loses = {"haproxy"}                 # these services are down after a "successful" patch
    router.lies = True                         # reports success, and keeps the old scripts
    router.waits_for = threading.Event()       # the script does not end before somebody sets it

Order
-----
``cloud.timeline`` is the list of everything that happened, as ``(vm, what)``: ``("r-1-VM", "patch")``. So a test that
is about order compares a list, and one that is about "exactly once" counts.

Pairs
-----
Routers of a pair share a ``Vrrp``; patching the primary hands its role to the other one, as restarting keepalived
does. ``vrrp.split = True`` makes both believe that they are the primary.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundle.errors import InfrastructureError
from harness import agent
from harness.agent import BundleFiles
from harness.management import Inventory, ManagementServer, Vm
from harness.management.health import Role
from harness.management.server import Ways

OLD = "1" * 32
NEW = "2" * 128


@dataclass
class Answer:
    """What a command ends with."""

    stdout: str = ""
    status: int = 0
    stderr: str = ""
    seconds: float = 0.1


@dataclass
class Vrrp:
    """Who of a pair is the primary."""

    primary: str
    members: list[str] = field(default_factory=list)
    split: bool = False
    lost: bool = False

    def role(self, name: str) -> Role:
        """Return what a member believes of itself."""
        if self.lost:
            return "FAULT"
        return "PRIMARY" if self.split or name == self.primary else "BACKUP"

    def restart(self, name: str) -> None:
        """Let a member restart: if it was the primary, another one takes over."""
        if name == self.primary:
            self.primary = next(member for member in self.members if member != name)


@dataclass
class SimulatedVm:
    """A guest that understands the commands of a live patch."""

    name: str
    timeline: list[tuple[str, str]]
    signature: str = OLD
    template: str = "Cloudstack Release 4.21.0 Sat Jan 31 2026"
    services: set[str] = field(default_factory=lambda: {"haproxy", "apache2"})
    fails: str = ""
    says: str = ""
    loses: set[str] = field(default_factory=set)
    lies: bool = False
    unreachable: bool = False
    record: str = ""
    stale_agent: bool = False
    waits_for: threading.Event | None = None
    vrrp: Vrrp | None = None
    busy: threading.Lock = field(default_factory=threading.Lock)

    def run(self, command: str, *, deadline: float = 60.0, stdin: bytes = b"", check: bool = True) -> Answer:
        """Do what a guest does on this command."""
        if self.unreachable:
            raise InfrastructureError(f"{self.name}: no SSH login")
        if command.endswith("get_template_version.sh"):
            return Answer(f"{self.template}&{self.signature}\n")
        if command.endswith("/patch-sysvms.sh"):
            return self._patch()
        if command.endswith("--status"):
            return Answer(self.record)
        raise AssertionError(f"the simulator does not know {command!r}")

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        """Take a file."""
        self.timeline.append((self.name, f"upload {Path(path).name}"))

    def _patch(self) -> Answer:
        self.timeline.append((self.name, "patch"))
        assert self.busy.acquire(blocking=False), "two patches at once on one VM"
        try:
            if self.waits_for:
                self.waits_for.wait()
            if self.fails:
                return Answer(status=1, stderr=self.fails)
            if self.vrrp:
                self.vrrp.restart(self.name)
            self.services -= self.loses
            if not self.lies:
                self.signature = NEW
            return Answer(f"{self.says}version:{NEW} \n")
        finally:
            self.busy.release()


class Cloud:
    """An inventory, its guests and a server."""

    def __init__(self, **server: Any) -> None:
        """Make an empty cloud; keywords go to the server."""
        self.timeline: list[tuple[str, str]] = []
        self.guests: dict[str, SimulatedVm] = {}
        self.inventory = Inventory()
        contents = {"agent.zip": b"A", "cloud-scripts.tgz": b"S", "patch-sysvms.sh": b"#!"}
        self.bundle = BundleFiles(Path("bundle"), contents, NEW)
        ways = Ways(
            patch=agent.patch,
            ask_versions=agent.ask_versions,
            active_services=lambda guest: frozenset(self.guests[guest.name].services),
            role=self._role,
            agent_is_stale=lambda guest, _bundle: self.guests[guest.name].stale_agent,
            apply=self._apply,
        )
        settings = {"settle_deadline": 0.0, "ways": ways, **server}
        self.server = ManagementServer(self.inventory, self.bundle, **settings)
        self.refused_rules: set[str] = set()

    def vm(self, name: str, kind: str, **row: Any) -> SimulatedVm:
        """Add a VM of a type; its id is its name."""
        guest = self.guests[name] = SimulatedVm(name, self.timeline)
        self.inventory.add(Vm(name, name, kind, guest, **row))
        return guest

    def router(self, name: str, **row: Any) -> SimulatedVm:
        """Add a router, of a VPC when one is named."""
        return self.vm(name, "vpcrouter" if row.get("vpc") else "router", **row)

    def pair(self, primary: str, backup: str, **row: Any) -> Vrrp:
        """Add two routers that are a redundant pair."""
        vrrp = Vrrp(primary, [primary, backup])
        for name in (primary, backup):
            self.router(name, **row).vrrp = vrrp
        return vrrp

    def patches(self) -> list[str]:
        """Return the VMs whose script ran, in order."""
        return [name for name, what in self.timeline if what == "patch"]

    def rules(self) -> list[str]:
        """Return the VMs to which rules were sent, in order."""
        return [name for name, what in self.timeline if what == "rules"]

    def _role(self, guest: Any) -> Role:
        vrrp = self.guests[guest.name].vrrp
        return vrrp.role(guest.name) if vrrp else "UNKNOWN"

    def _apply(self, guest: Any, bags: Any) -> Any:
        from bundle.errors import CheckFailed
        from harness.network import Applied

        self.timeline.append((guest.name, "rules"))
        if guest.name in self.refused_rules:
            raise CheckFailed(f"{guest.name}: load_balancer.json was not applied")
        return Applied(len(bags), 0.1)
