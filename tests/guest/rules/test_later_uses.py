"""Later uses of a router, on the reference payload in namespaces; and payloads of which one use is broken."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness import network
from harness.guest.connection import SshCommandResult
from harness.lab.aftermath.uses import Later
from tests.guest.rules import testbed
from tests.guest.rules.testbed import Space, laboratory
from tests.mutants.vm import broken_uses

TENANT = Path(__file__).parents[3] / "harness/vm/tenant/guest"
NETWORK = network.load("router")
RELEASE = "4.22"
# Where each host has the applets: its /tmp is its own.
APPLETS = "/mnt/applets"
SIGNATURE = "0" * 128
# What a mere router of namespaces is asked: what needs systemd, or a boot, is for VMs.
GOOD = {
    "versions", "a new machine gets its lease", "a new machine is known by name", "a new machine gets its user data",
    "a new machine gets its metadata", "a new machine gets its password once", "a password is reset", "health checks",
    "a forward is added", "a balancer is changed", "a forward is changed", "a forward is revoked",
    "a firewall rule is revoked", "a machine goes", "all of that is undone", "roles are told", "logs are rotated",
}  # fmt: skip


@dataclass
class Router:
    """The router of the namespaces, as a guest."""

    space: Space
    name: str = "r-10-VM"

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        self.space.write(path, data.decode())

    def run(
        self, command: str, *, deadline: float = 60.0, stdin: bytes = b"", check: bool = True
    ) -> SshCommandResult:
        done = self.space.run("bash", "-c", command, check=check, timeout=deadline)
        return SshCommandResult(command, done.status, done.stdout, done.stderr, 0.0)


@dataclass
class Host:
    """A host of the namespaces, as a tenant: the applets of busybox, its clients and its servers."""

    name: str
    space: Space
    applets: Path

    def run(self, script: str, *, deadline: float = 30.0, check: bool = True) -> SshCommandResult:
        own = script.replace("/bin/udhcpc.script", f"{APPLETS}/udhcpc.script")
        done = self.space.run(
            "busybox", "sh", "-c", f"export PATH={APPLETS}\n{own}", check=check, timeout=deadline
        )
        return SshCommandResult(script, done.status, done.stdout.rstrip("\n"), done.stderr, 0.0)

    def resolve(self, name: str, server: str) -> str:
        return self.run(f"nslookup {name} {server}", check=False).stdout

    def serve(self, stack, ports: tuple[int, ...] = (7, 22)) -> None:
        self.space.sh(
            f"mount -t tmpfs tmpfs /mnt; cp -a {self.applets} {APPLETS}; "
            "mount -t tmpfs tmpfs /etc; mount -t tmpfs tmpfs /tmp; mkdir -p /tmp/www/cgi-bin; "
            f"echo 'tenant {self.name}' >/tmp/www/index.html; cp {APPLETS}/peer /tmp/www/cgi-bin/peer"
        )
        commands = ["httpd -f -p 80 -h /tmp/www", *(f"nc -ll -p {port} -e cat" for port in ports)]
        for command in commands:
            words = ["busybox", "sh", "-c", f"export PATH={APPLETS}\nexec {command}"]
            stack.enter_context(self.space.background(*words))


@dataclass(eq=False)
class RouterWithHosts:
    """A router and the hosts behind it, as a system VM; nobody asks from loopback."""

    guest: Router
    tenants: dict[str, Host]
    endpoints: dict[tuple[str, int], int] = field(default_factory=dict)


@pytest.fixture
def applets(tmp_path: Path) -> Path:
    """The folder of busybox's applets, with what a tenant's guest has besides."""
    folder = tmp_path / "applets"
    folder.mkdir()
    testbed.subprocess.run(["busybox", "--install", "-s", str(folder)], check=True)
    for name, source in (("udhcpc.script", "udhcpc.sh"), ("peer", "peer.sh")):
        shutil.copyfile(TENANT / source, folder / name)
        (folder / name).chmod(0o755)
    return folder


def later(lab: testbed.RouterTestbed, applets: Path) -> Later:
    """Return the later uses of a booted router that was sent everything that is declared."""
    hosts = {}
    for machine in NETWORK.machines:
        hosts[machine.name] = Host(machine.name, lab.vm(machine.mac, str(machine.address)), applets)
    hosts["internet"] = Host("internet", lab.outside, applets)
    lab.outside.sh("ip address flush dev eth0; for a in 99 1; do ip address add 192.0.2.$a/24 dev eth0; done")
    for host in hosts.values():
        host.serve(lab.stack)
    lab.router.write("/etc/cloudstack-release", "Cloudstack Release 4.22.0\n")
    lab.router.write("/var/cache/cloud/cloud-scripts-signature", f"{SIGNATURE}\n")
    guest = Router(lab.router)
    orders = network.Orders(NETWORK, RELEASE, 1, ("Cloudstack Release 4.22.0", SIGNATURE))
    network.deliver(guest, orders.start())
    return Later(RouterWithHosts(guest, hosts), NETWORK, RELEASE, SIGNATURE)


def test_every_later_use_of_a_healthy_router_works(lab, applets):
    uses = {use.name: use.problem or use.skipped for use in later(lab, applets).whole()}
    assert {name: problem for name, problem in uses.items() if problem} == {}
    assert uses.keys() == GOOD


def told_by(rows, monkeypatch, tmp_path, applets):
    """Return what later uses say of a payload that is broken in some ways, by use."""
    payload = tmp_path / "payload"
    shutil.copytree(testbed.PAYLOAD, payload)
    for file, old, new in {(row.file, row.old, row.new) for row in rows}:
        row = next(row for row in rows if (row.file, row.old, row.new) == (file, old, new))
        (payload / file).write_text(row.broken((payload / file).read_text()))
    monkeypatch.setattr(testbed, "PAYLOAD", payload)
    whole = any(row.form == "whole" for row in rows)
    with laboratory() as lab:
        lab.boot()
        uses = later(lab, applets)
        return {use.name: use.problem for use in (uses.whole() if whole else uses.short())}


@pytest.mark.parametrize("group", [1, 2])
def test_later_uses_that_are_broken_together_are_each_caught(monkeypatch, tmp_path, applets, group):
    rows = [row for row in broken_uses() if row.group == group]
    told = told_by(rows, monkeypatch, tmp_path, applets)
    assert [row.name for row in rows if row.words not in told.get(row.use, "")] == [], told


@pytest.mark.skipif("SYSVM_MUTANTS" not in os.environ, reason="nox -s mutants -- later")
@pytest.mark.parametrize(
    "row", [row for row in broken_uses() if row.form != "reboot"], ids=lambda row: row.name
)
def test_a_later_use_that_is_broken_is_caught(monkeypatch, tmp_path, applets, row):
    told = told_by([row], monkeypatch, tmp_path, applets)
    assert row.words in told[row.use], told
