"""A cloud in memory: system VMs that can be patched, fail, lie and hang, and a server that manages them.

It stands in for virtual machines, which a unit test cannot boot, and only for them: the management code under test is
the real one, and so is the agent's, down to the parsing of the script's line. What is simulated is what a guest does
when one of the agent's commands arrives over SSH.

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
    router.health = "FAILED"                   # what its health check says
    router.drops_rules = True                  # its vr_cfg.sh says success and applies nothing
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

import base64
import hashlib
import io
import json
import re
import tarfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundle.errors import InfrastructureError
from harness.kvmagent.patch import BundleFiles
from harness.management import Inventory, ManagementServer, Vm
from harness.management.health import RedundancyRole

OLD = "1" * 32
NEW = "2" * 128
SERVICES = ("haproxy", "apache2")


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

    def role(self, name: str) -> RedundancyRole:
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
    enabled: tuple[str, ...] = SERVICES
    services: set[str] = field(default_factory=lambda: set(SERVICES))
    fails: str = ""
    says: str = ""
    loses: set[str] = field(default_factory=set)
    lies: bool = False
    unreachable: bool = False
    record: str = ""
    installed: str = ""
    stale_agent: bool = False
    drops_rules: bool = False
    health: str = "SUCCESS"
    waits_for: threading.Event | None = None
    vrrp: Vrrp | None = None
    busy: threading.Lock = field(default_factory=threading.Lock)
    # What its own check compares its versions with, once the server has told it.
    expected: str = ""

    def run(self, command: str, *, deadline: float = 60.0, stdin: bytes = b"", check: bool = True) -> Answer:
        """Do what a guest does on this command."""
        if self.unreachable:
            raise InfrastructureError(f"{self.name}: no SSH login")
        if command.endswith("get_template_version.sh"):
            return Answer(f"{self.template}&{self.signature}\n")
        if command.endswith("/patch-sysvms.sh"):
            return self._patch()
        if command.startswith("for s in /var/cache/cloud/patch-sysvms.sh"):
            running = self.busy.locked()
            return Answer(json.dumps({"state": "running" if running else "none", "phase": "backup"}))
        if command.endswith("--status"):
            return Answer(self.record)
        if "getRouterMonitorResults.sh" in command:
            return Answer(self._monitor())
        if command.endswith("checkrouter.sh"):
            return Answer(f"Status: {self.vrrp.role(self.name) if self.vrrp else 'FAULT'}\n")
        if command == "bash -s":
            return Answer(self._collect(stdin.decode()))
        if "grep '^release'" in command:
            return Answer(f"release\t{self.installed}\n" if self.installed else "")
        if "installed.manifest" in command:
            digest = "f" * 128 if self.stale_agent else hashlib.sha512(b"A").hexdigest()
            return Answer(f"archive\tagent.zip\t1\t{digest}\n")
        if command.startswith("/opt/cloud/bin/vr_cfg.sh -c "):
            self.timeline.append((self.name, "rules"))
            return Answer()
        if command.startswith(
            ("/opt/cloud/bin/update_config.py monitor", "/opt/cloud/bin/configure.py monitor")
        ):
            return Answer()
        if command.startswith("cd /var/cache/cloud/processed"):
            return Answer("load_balancer.json.7f\n" if self.drops_rules else "")
        raise AssertionError(f"the simulator does not know {command!r}")

    def _monitor(self) -> str:
        """Answer a question for the results of the health checks."""
        actual = f"templateVersion={self.template},scriptsVersion={self.signature}"
        version = "SUCCESS" if self.expected in ("", actual) else "FAILED"
        checks = {
            name: {"success": word, "lastUpdate": "1767225600000", "message": "as told"}
            for name, word in {"dns_check.py": self.health, "router_version_check.py": version}.items()
        }
        results = {"basic": {**checks, "lastRun": {"start": "", "end": ""}}, "advanced": {}}
        return f"FAILING CHECKS:\nMONITOR RESULTS:\n{json.dumps(results)}\n"

    def _collect(self, script: str) -> str:
        """Answer the script of ``harness.guest.collect``: the list of services, and which of them are up."""
        outputs = {
            "services.enabled": " ".join(sorted(self.enabled)),
            "services.units": "\n\n".join(
                f"Id={word}.service\nActiveState={'active' if word in self.services else 'failed'}"
                for word in self.enabled
            ),
        }
        names = re.findall(r"^collect (\S+) ", script, re.MULTILINE)
        outputs["status"] = "".join(f"{name} 0\n" for name in names)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as packed:
            for name in [*names, "status"]:
                info, data = tarfile.TarInfo(name), outputs.get(name, "").encode()
                info.size = len(data)
                packed.addfile(info, io.BytesIO(data))
        return f"{base64.b64encode(archive.getvalue()).decode()}\ncollected\n"

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        """Take a file."""
        if Path(path).name.startswith("monitor_service.json"):
            self.expected = json.loads(data)["health_checks_config"].get("routerVersion", "")
            return
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
                self.installed = "4.22.0.0"
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
        self.server = ManagementServer(self.inventory, self.bundle, **{"settle_deadline": 0.0, **server})

    def vm(self, name: str, kind: str, **row: Any) -> SimulatedVm:
        """Add a VM of a type; its id is its name."""
        guest = self.guests[name] = SimulatedVm(name, self.timeline)
        if kind in {"consoleproxy", "secstorage"}:
            guest.enabled, guest.services = (*SERVICES, "cloud"), {*SERVICES, "cloud"}
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
