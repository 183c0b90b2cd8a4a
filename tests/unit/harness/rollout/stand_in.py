"""A stand-in for a CloudStack, for what a real one cannot be asked to do: thousands of VMs, lies, death at a word.

It keeps rows as the API shows them, jobs that take simulated time, and a record of every patch. Its answers have the
form of API.md's facts; nothing of it judges. A test

1. makes a cloud with ``Cloud()`` and ``small(cloud)`` or ``large(cloud, routers)``;
2. gives it lies (``cloud.lies[unit] = "silent"``) or troubles (``cloud.trouble = ...``);
3. runs a rollout over ``Wire(cloud)``, and asks ``cloud.patched``, ``cloud.violations`` and ``cloud.starts``.
"""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from harness.rollout.transport import Busy, LostAnswer, Rejected, SessionEnded

OLD, NEW = "a" * 128, "b" * 128
RELEASE = "4.22.0.0"
# What CloudStack says after job.cancel.threshold.minutes, an hour, when something waits behind a job.
GIVEN_UP = "Job is cancelled as it has been blocking others for too long"
VERSION_CHECK = "router_version_check.py"


class Killed(BaseException):
    """The rollout dies here, as by SIGKILL: nothing may catch it."""


@dataclass
class Clock:
    """Time that passes only when somebody waits."""

    time: datetime = datetime(2026, 3, 2, 20, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class Job:
    id: str
    command: str
    unit: str
    hosts: frozenset[str]
    ends: datetime
    status: int = 0
    result: Any = None


@dataclass
class Cloud:
    clock: Clock = field(default_factory=Clock)
    seconds: float = 40.0
    vms: dict[str, dict[str, Any]] = field(default_factory=dict)
    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    vpcs: dict[str, dict[str, Any]] = field(default_factory=dict)
    zones: dict[str, str] = field(default_factory=lambda: {"z1": "Z1"})
    minimum: str = "4.10.0"
    jobs: dict[str, Job] = field(default_factory=dict)
    patched: Counter[str] = field(default_factory=Counter)
    starts: list[tuple[datetime, str]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    failing: dict[str, list[str]] = field(default_factory=dict)
    lies: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    keeps_ids: bool = True
    forbidden: set[str] = field(default_factory=set)
    release: str = RELEASE
    _open: dict[str, Job] = field(default_factory=dict)
    _served: dict[str, dict[str, None]] = field(default_factory=dict)

    # -- what the API answers ------------------------------------------------------------------------------------

    def answer(self, command: str, given: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(command)
        self._end_jobs()
        if command in self.forbidden:
            raise Rejected(command, 432, "The API does not exist or is not available for the account")
        handler = getattr(self, f"_{command}", None)
        if handler is None:
            raise Rejected(command, 432, f"Unknown API command: {command}")
        return handler({name.lower(): str(value) for name, value in given.items()})

    def _listCapabilities(self, _given):
        return {"capability": {"cloudstackversion": self.release}}

    def _listApis(self, _given):
        names = [
            name[1:]
            for name in dir(self)
            if name.startswith(("_list", "_restart", "_patch", "_query", "_get"))
        ]
        params = {
            "restartNetwork": ["id", "cleanup", "livepatch"],
            "restartVPC": ["id", "cleanup", "livepatch"],
        }
        rows = [
            {"name": name, "params": [{"name": one} for one in params.get(name, ["id"])]}
            for name in names
            if name not in self.forbidden
        ]
        return {"count": len(rows), "api": rows}

    def _listZones(self, given):
        return self._page(given, "zone", [{"id": zone, "name": name} for zone, name in self.zones.items()])

    def _listConfigurations(self, given):
        row = {"name": given["name"], "value": self.minimum}
        return self._page(given, "configuration", [row])

    def _listSystemVms(self, given):
        there = self._named(self.vms, given)
        return self._page(given, "systemvm", [row for row in there if "systemvmtype" in row])

    def _listRouters(self, given):
        rows = [row for row in self._owned(self._near(given), given) if row.get("role") == "VIRTUAL_ROUTER"]
        return self._page(
            given, "router", self._by(rows, given, networkid="guestnetworkid", vpcid="vpcid", id="id")
        )

    def _listInternalLoadBalancerVMs(self, given):
        rows = [row for row in self._owned(self._near(given), given) if row.get("role") == "INTERNAL_LB_VM"]
        rows = self._by(rows, given, networkid="guestnetworkid", vpcid="vpcid", id="id")
        return self._page(given, "internalloadbalancervm", rows)

    def _listNetworks(self, given):
        rows = self._by(self._owned(self._named(self.networks, given), given), given, vpcid="vpcid")
        return self._page(given, "network", rows)

    def _listVPCs(self, given):
        return self._page(given, "vpc", self._owned(self._named(self.vpcs, given), given))

    def _getRouterHealthCheckResults(self, given):
        router = given["routerid"]
        names = ["basic_test.py", VERSION_CHECK]
        failing = self.failing.get(router, [])
        rows = [{"checkname": name, "success": name not in failing} for name in names]
        return {"routerhealthchecks": {"routerid": router, "healthchecks": rows}}

    def _queryAsyncJobResult(self, given):
        job = self.jobs.get(given["jobid"])
        if job is None:
            raise Rejected("queryAsyncJobResult", 431, "entity does not exist")
        row = {"jobid": job.id, "jobstatus": job.status, "jobresultcode": 0, "created": "x"}
        return row if job.status == 0 else {**row, "jobresult": job.result}

    def _patchSystemVm(self, given):
        return self._start("patchSystemVm", given, [self.vms[given["id"]]])

    def _restartNetwork(self, given):
        assert given["livepatch"] == "true"
        return self._start("restartNetwork", given, self._of("guestnetworkid", given["id"]))

    def _restartVPC(self, given):
        assert given["livepatch"] == "true"
        return self._start("restartVPC", given, self._of("vpcid", given["id"]))

    # -- how it answers ------------------------------------------------------------------------------------------

    @staticmethod
    def _page(given, name, rows):
        size, page = int(given["pagesize"]), int(given["page"])
        shown = rows[(page - 1) * size : page * size]
        return {"count": len(rows), name: shown} if shown else {}

    @staticmethod
    def _owned(rows, given):
        project = given.get("projectid")
        if project is None:
            return [row for row in rows if not row.get("projectid")]
        return [
            row
            for row in rows
            if (row.get("projectid") if project == "-1" else row.get("projectid") == project)
        ]

    @staticmethod
    def _by(rows, given, **fields):
        for name, key in fields.items():
            if name in given:
                rows = [row for row in rows if row.get(key) == given[name]]
        return rows

    @staticmethod
    def _named(rows, given):
        if "id" not in given:
            return list(rows.values())
        return [rows[given["id"]]] if given["id"] in rows else []

    def _near(self, given):
        """Return the VMs of a network or VPC, or all: thousands of whole lists would take a test long."""
        place = given.get("networkid") or given.get("vpcid")
        if place is None:
            return list(self.vms.values())
        return [self.vms[vm] for vm in self._served.get(place, ()) if vm in self.vms]

    def _of(self, key, value):
        there = self._near({"networkid": value})
        return [row for row in there if row.get(key) == value and row.get("role") == "VIRTUAL_ROUTER"]

    def _start(self, command, given, rows):
        job_id = given.get("customjobid") if self.keeps_ids else None
        if job_id in self.jobs:
            raise Rejected(
                command, 431, f"UUID: {job_id} already exists so can't create/update with custom id"
            )
        unit, hosts = given["id"], frozenset(row["hostid"] for row in rows)
        for other in self._open.values():
            if other.hosts & hosts:
                self.violations.append(f"{unit} and {other.unit} at once on {sorted(other.hosts & hosts)}")
        self.patched[unit] += 1
        self.starts.append((self.clock.now(), unit))
        ends = self.clock.now() + timedelta(seconds=self.seconds * max(len(rows), 1))
        job = Job(job_id or str(uuid.uuid4()), command, unit, hosts, ends)
        self.jobs[job.id] = self._open[job.id] = job
        return {"jobid": job.id}

    def _end_jobs(self):
        for job in list(self._open.values()):
            lie = self.lies.get(job.unit, "")
            if lie == "hangs" or job.ends > self.clock.now():
                continue
            if lie.startswith("given up") and job.status == 0:
                job.status, job.result, job.ends = 2, GIVEN_UP, job.ends + timedelta(seconds=self.seconds)
                continue
            del self._open[job.id]
            if job.status:
                if lie == "given up":
                    self._install(job, lie)
                continue
            job.status, job.result = 1, {"success": True}
            if lie == "fails":
                job.status, job.result = 2, {"errorcode": 530, "errortext": "Failed to restart network"}
            elif lie != "silent":
                self._install(job, lie)

    def _install(self, job, lie):
        rows = [self.vms[job.unit]] if job.unit in self.vms else self._near({"networkid": job.unit})
        for row in rows:
            if row.get("role") == "INTERNAL_LB_VM" and row.get("vpcid"):
                continue
            if "systemvmtype" in row:
                row["version"] = RELEASE
                row["agentstate"] = "Disconnected" if lie == "agent" else "Up"
            else:
                row["scriptsversion"], row["softwareversion"] = NEW, RELEASE
            if lie == "never":
                self.failing.setdefault(row["id"], []).append(VERSION_CHECK)
            if lie == "two primaries" and row.get("isredundantrouter"):
                row["redundantstate"] = "PRIMARY"
            if lie == "stopped":
                row["state"] = "Stopped"

    # -- what it has ---------------------------------------------------------------------------------------------

    def _vm(self, name, host, zone="z1", **fields):
        vm_id = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
        self.vms[vm_id] = {
            "id": vm_id, "name": name, "state": "Running", "hostid": host, "hostname": f"host-{host}",
            "hypervisor": "KVM", "zoneid": zone, "zonename": self.zones[zone], **fields,
        }  # fmt: skip
        for place in (fields.get("guestnetworkid"), fields.get("vpcid")):
            self._served.setdefault(place, {})[vm_id] = None
        return vm_id

    def system_vm(self, name, kind, host, zone="z1", **fields):
        more = {
            "systemvmtype": kind,
            "version": "4.21.0.0",
            "agentstate": "Up",
            "templatename": "systemvm-kvm-4.21.0",
        }
        return self._vm(name, host, zone, **{**more, **fields})

    def router(self, name, host, network="", vpc="", zone="z1", **fields):
        more = {
            "role": "VIRTUAL_ROUTER", "version": "4.21.0", "scriptsversion": OLD, "softwareversion": "4.21.0.0",
            "isredundantrouter": False, "healthchecksfailed": False,
        }  # fmt: skip
        places = {"guestnetworkid": network, "vpcid": vpc}
        places = {key: value for key, value in places.items() if value}
        return self._vm(name, host, zone, **{**more, **places, **fields})

    def network(self, name, kind="Isolated", vpc="", zone="z1", **fields):
        row_id = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
        self.networks[row_id] = {
            "id": row_id, "name": name, "type": kind, "state": "Implemented", "zoneid": zone,
            "zonename": self.zones[zone], **({"vpcid": vpc} if vpc else {}), **fields,
        }  # fmt: skip
        return row_id

    def vpc(self, name, tiers=1, zone="z1", **fields):
        row_id = str(uuid.uuid5(uuid.NAMESPACE_OID, name))
        self.vpcs[row_id] = {
            "id": row_id, "name": name, "state": "Enabled", "zoneid": zone, "zonename": self.zones[zone], **fields,
        }  # fmt: skip
        for number in range(tiers):
            self.network(f"{name}-tier{number}", vpc=row_id, zone=zone, **fields)
        return row_id

    def pair(self, name, number, hosts, **places):
        for place, (host, role) in enumerate(zip(hosts, ("PRIMARY", "BACKUP"), strict=True)):
            more = {"isredundantrouter": True, "redundantstate": role}
            self.router(f"r-{number + place}-VM", host, **places, **more)
        return name


def small(cloud):
    """Fill a cloud with one unit of each kind, and return their ids by a short name."""
    ids = {
        "ssvm": cloud.system_vm("s-1-VM", "secondarystoragevm", "h1"),
        "cpvm": cloud.system_vm("v-2-VM", "consoleproxy", "h2"),
        "web": cloud.network("web", account="acme", domain="ROOT"),
        "pair": cloud.network("pair", projectid="p1"),
        "shop": cloud.vpc("shop", tiers=2),
        "lan": cloud.network("lan", kind="Shared"),
    }
    cloud.router("r-10-VM", "h1", network=ids["web"])
    cloud.pair("pair", 20, ("h1", "h2"), network=ids["pair"], projectid="p1")
    cloud.router("r-30-VM", "h3", vpc=ids["shop"])
    cloud.router("r-40-VM", "h3", network=ids["lan"])
    return ids


def large(cloud, routers, hosts=200, seed=1):
    """Fill a cloud with so many routers, in networks, pairs and VPCs over two zones."""
    chance = random.Random(seed)
    cloud.zones = {"z1": "Z1", "z2": "Z2"}
    left, number = routers, 100
    while left > 0:
        zone = chance.choice(["z1", "z2"])
        host = lambda: f"{zone}-h{chance.randrange(hosts // 2)}"  # noqa: E731, B023
        kind = chance.random()
        number += 2
        if kind < 0.15 and left > 1:
            one, two = host(), host()
            places = {"network": cloud.network(f"pair{number}", zone=zone)}
            cloud.pair("pair", number, (one, two), zone=zone, **places)
            left -= 2
        elif kind < 0.35:
            vpc = cloud.vpc(f"vpc{number}", tiers=chance.randrange(1, 4), zone=zone)
            cloud.router(f"r-{number}-VM", host(), vpc=vpc, zone=zone)
            left -= 1
        else:
            shape = "Shared" if kind > 0.97 else "Isolated"
            cloud.router(
                f"r-{number}-VM", host(), network=cloud.network(f"net{number}", shape, zone=zone), zone=zone
            )
            left -= 1
    for zone in cloud.zones:
        cloud.system_vm(f"s-{zone}-VM", "secondarystoragevm", f"{zone}-h0", zone)
        cloud.system_vm(f"v-{zone}-VM", "consoleproxy", f"{zone}-h1", zone)
    return cloud


@dataclass
class Wire:
    """A transport to a stand-in, in which answers are lost, servers are busy, sessions end, and rollouts die.

    ``trouble(command, moment)`` is asked before a call arrives and before its answer leaves; it may raise.
    """

    cloud: Cloud
    trouble: Callable[[str, str], None] = lambda _command, _moment: None
    renewed: int = 0

    def send(self, command, parameters, timeout):
        self.trouble(command, "before")
        # Booleans as real clients write them.
        given = {
            name: str(value).lower() if isinstance(value, bool) else value
            for name, value in parameters.items()
        }
        answer = self.cloud.answer(command, given)
        self.trouble(command, "after")
        return answer

    def renew(self):
        self.renewed += 1
        return True

    def hide(self, text):
        return text


CHANGES = ("patchSystemVm", "restartNetwork", "restartVPC")


def lose(chance, share, only=CHANGES):
    """Return a trouble that loses some calls on their way there or back."""

    def trouble(command, moment):
        if command in only and chance.random() < share:
            raise LostAnswer(f"{command}: no answer ({moment})")

    return trouble


def refuse(chance, share, kinds=("busy", "session")):
    """Return a trouble that refuses some calls before they are carried out."""

    def trouble(command, moment):
        if moment == "before" and chance.random() < share:
            if chance.choice(kinds) == "busy":
                raise Busy(f"{command}: 503", 7.0)
            raise SessionEnded(f"{command}: 401")

    return trouble
