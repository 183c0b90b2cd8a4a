"""Rows of lists: what the server knows of an object, as clients expect to read it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from harness.management.api.accounts import SYSTEM, Account, uid
from harness.management.api.answers import date
from harness.management.api.jobs import Job
from harness.management.api.state import ServerState
from harness.management.gate import numbers_of, template_number
from harness.management.inventory import NetworkRow, Vm, VpcRow
from harness.management.status import verdict_of

Row: TypeAlias = dict[str, Any]
_SERVICES = ("Dhcp", "Dns", "UserData", "SourceNat", "PortForwarding", "StaticNat", "Lb", "Firewall")


class Rows:
    """Makes rows for one caller."""

    def __init__(self, service: ServerState, caller: Account, jobs: Mapping[str, str]) -> None:
        """Take the server, the caller, and the job in progress of each object that has one."""
        self._service = service
        self._caller = caller
        self._jobs = jobs
        # Looked up once for all rows: a cloud has thousands.
        self._serving: dict[str, list[Vm]] = defaultdict(list)
        self._of_vpc: dict[str, list[Vm]] = defaultdict(list)
        self._tiers: dict[str, list[NetworkRow]] = defaultdict(list)
        for vm in service.inventory.all_vms():
            for name in vm.networks:
                self._serving[name].append(vm)
            if vm.vpc:
                self._of_vpc[vm.vpc].append(vm)
        for network in service.inventory.all_networks():
            if network.vpc:
                self._tiers[network.vpc].append(network)

    def system_vm(self, vm: Vm) -> Row:
        """Return the row of a console proxy or storage VM."""
        row = self._vm(vm)
        agent = {"agentstate": vm.agent or "Disconnected", "version": vm.agent_version or None}
        # CloudStack's job of a system VM does not name it, so the row does not name the job.
        return {
            **row,
            "systemvmtype": vm.kind.api,
            **agent,
            "privateip": vm.location.private or None,
            "activeviewersessions": 0 if "console" in vm.kind.has else None,
        }

    def router(self, vm: Vm) -> Row:
        """Return the row of a router or an internal load balancer."""
        inventory = self._service.inventory
        network = inventory.networks.get(vm.networks[0]) if vm.networks else None
        vpc = inventory.vpcs.get(vm.vpc)
        number = ".".join(map(str, template_number(vm.template_version)))
        health = self._service.health.get(vm.id)
        return {
            **self._vm(vm),
            **self.owner(vpc or network),
            "role": vm.kind.api,
            "version": number or "UNKNOWN",
            "scriptsversion": vm.scripts_version or None,
            "softwareversion": vm.software_version or None,
            "requiresupgrade": self.requires_upgrade(vm),
            "isredundantrouter": vm.redundant,
            "redundantstate": vm.role if vm.redundant else "UNKNOWN",
            "vpcid": uid("vpc", vpc.id) if vpc else None,
            "vpcname": (vpc.name or vpc.id) if vpc else None,
            "guestnetworkid": uid("network", network.id) if network else None,
            "guestnetworkname": (network.name or network.id) if network else None,
            "guestipaddress": vm.location.inside or None,
            "healthchecksfailed": any(not check["success"] for check in health) if health else False,
        }

    def network(self, network: NetworkRow) -> Row:
        """Return the row of a network."""
        vpc = self._service.inventory.vpcs.get(network.vpc)
        name = network.name or network.id
        own = uid("network", network.id)
        return {
            "id": own,
            "name": name,
            "displaytext": name,
            "type": "Shared" if network.shared else "Isolated",
            "state": network.state,
            "vpcid": uid("vpc", vpc.id) if vpc else None,
            "vpcname": (vpc.name or vpc.id) if vpc else None,
            "redundantrouter": network.redundant,
            "restartrequired": network.restart_required,
            "traffictype": "Guest",
            "specifyvlan": False,
            "issystem": False,
            "canusefordeploy": True,
            "service": [{"name": name} for name in _SERVICES],
            **self._zone(network.zone),
            **self.owner(network),
            **self._job(own),
            **self._of_several(self._vms_of(network)),
        }

    def _vms_of(self, network: NetworkRow) -> Sequence[Vm]:
        return self._vms_of_vpc(network.vpc) if network.vpc else self._serving.get(network.id, [])

    def _vms_of_vpc(self, vpc: str) -> Sequence[Vm]:
        """Return the routers of a VPC, and the balancers of its tiers."""
        of_tiers = (vm for tier in self._tiers.get(vpc, []) for vm in self._serving.get(tier.id, []))
        found = {vm.id: vm for vm in (*self._of_vpc.get(vpc, []), *of_tiers)}
        return list(found.values())

    def vpc(self, vpc: VpcRow) -> Row:
        """Return the row of a VPC."""
        name = vpc.name or vpc.id
        own = uid("vpc", vpc.id)
        tiers = self._tiers.get(vpc.id, [])
        return {
            "id": own,
            "name": name,
            "displaytext": name,
            "state": "Enabled",
            "redundantvpcrouter": vpc.redundant,
            "restartrequired": vpc.restart_required,
            "network": [
                {"id": uid("network", tier.id), "name": tier.name or tier.id, "state": tier.state}
                for tier in tiers
            ],
            "service": [{"name": name} for name in _SERVICES],
            **self._zone(vpc.zone),
            **self.owner(vpc),
            **self._job(own),
            **self._of_several(self._vms_of_vpc(vpc.id)),
        }

    def requires_upgrade(self, vm: Vm) -> bool:
        """Return CloudStack's "requires upgrade" by its own rule: the digest of the scripts does not count.

        A template that does not say its version needs one; a new enough template needs none, whatever its scripts;
        an older one does unless the server's own release patched it.
        """
        number = template_number(vm.template_version)
        if not number:
            return True
        if number >= numbers_of(self._service.server.minimum_template):
            return False
        return vm.software_version != self._service.version

    def owner(self, row: NetworkRow | VpcRow | None) -> Row:
        """Return whose an object is."""
        account = self._service.accounts.named(row.owner) if row else SYSTEM
        domain = {"domainid": account.domain_id, "domain": account.domain.rpartition("/")[2]}
        if row is not None and row.project:
            return {"projectid": uid("project", row.project), "project": row.project, **domain}
        name = row.owner if row and row.owner else SYSTEM.name
        return {"account": name, **domain}

    def _vm(self, vm: Vm) -> Row:
        own = uid("vm", vm.id)
        row: Row = {
            "id": own,
            "name": vm.name,
            "state": vm.state,
            **self._zone(vm.zone),
            "created": vm.location.created or None,
            "publicip": vm.location.public or None,
            "templateid": uid("template", vm.location.template) if vm.location.template else None,
            "templatename": vm.location.template or None,
            "hypervisor": vm.location.hypervisor,
            "arch": "x86_64",
            "gateway": vm.location.gateway or None,
            **self._job(own),
            **self._truth(vm),
        }
        if self._caller.role in {"Admin", "ResourceAdmin"}:
            host = vm.location.host
            row |= {
                "hostid": uid("host", host) if host else None,
                "hostname": host or None,
                "hostcontrolstate": "Enabled" if host else None,
                "podid": uid("pod", vm.zone),
                "linklocalip": vm.location.control or None,
            }
        return row

    def _zone(self, name: str) -> Row:
        return {"zoneid": uid("zone", name), "zonename": name}

    def _job(self, own: str) -> Row:
        return {"jobid": self._jobs[own], "jobstatus": 0} if own in self._jobs else {}

    def _truth(self, vm: Vm) -> Row:
        """Return what CloudStack has no field for; a server that is faithful to it has none either."""
        if self._service.faithful:
            return {}
        available = self._service.server.bundle.signature
        verdict, reason = _verdict(vm.template_version, self._service.server.release, vm.type)
        differs = vm.scripts_version != available
        if not vm.scripts_version:
            verdict, reason = "unknown", "the VM has not been asked yet, or did not answer"
        elif not differs:
            reason = "it runs the server's scripts"
        offered = differs and verdict in {"yes", "caveat"} and vm.state == "Running"
        return {
            "livepatchavailable": offered,
            "livepatchverdict": verdict,
            "livepatchreason": reason,
            "scriptsinstalled": vm.scripts_version or None,
            "scriptsavailable": available,
        }

    def _of_several(self, vms: Iterable[Vm]) -> Row:
        """Return the fields of a network: the gravest word of its VMs, and whether any may be patched."""
        if self._service.faithful:
            return {}
        rows = [self._truth(vm) for vm in vms]
        if not rows:
            return {
                "livepatchavailable": False,
                "livepatchverdict": "unknown",
                "livepatchreason": "nothing serves it at the moment",
                "scriptsavailable": self._service.server.bundle.signature,
            }
        order = ["yes", "caveat", "unknown", "no"]
        due = [row for row in rows if row["livepatchavailable"]] or rows
        gravest = max(due, key=lambda row: order.index(row["livepatchverdict"]))
        installed = {row["scriptsinstalled"] for row in rows}
        return {
            **gravest,
            "scriptsinstalled": installed.pop() if len(installed) == 1 else None,
            "livepatchavailable": any(row["livepatchavailable"] for row in rows),
        }


@lru_cache(maxsize=1024)
def _verdict(template: str, release: str, vm_type: str | None) -> tuple[str, str]:
    return verdict_of(template, release, vm_type=vm_type)


def job_row(service: ServerState, job: Job) -> Row:
    """Return what queryAsyncJobResult says of a job."""
    account = service.accounts.named(job.account)
    ended = job.completed is not None
    return {
        "accountid": account.id,
        "account": account.name,
        "domainid": account.domain_id,
        "domainpath": account.domain,
        "userid": account.user_id,
        "cmd": job.java,
        "jobstatus": job.status,
        "jobprocstatus": 0,
        "jobresultcode": job.code,
        "jobresulttype": ("text" if isinstance(job.result, str) else "object") if ended else None,
        "jobresult": job.result,
        "jobprogress": None if service.faithful else job.progress,
        "jobphases": None
        if service.faithful
        else [{"began": date(began), "phase": text} for began, text in job.phases],
        "created": date(job.created),
        "completed": date(job.completed) if job.completed is not None else None,
        "jobinstancetype": job.instance_type or None,
        "jobinstanceid": job.target if job.instance_type else None,
        "managementserverid": uid("managementserver", service.name),
        "managementservername": service.name,
        "jobid": job.id,
    }


def matches(row: Mapping[str, Any], wanted: Mapping[str, Any], keyword: str | None) -> bool:
    """Say whether a row has the wanted values, and the keyword in its name.

    Args:
        row: of a list.
        wanted: field and value; None asks for nothing.
        keyword: part of a name, in any case.
    """
    for name, value in wanted.items():
        if value is not None and row.get(name) != value:
            return False
    return (
        keyword is None or re.search(re.escape(keyword), str(row.get("name", "")), re.IGNORECASE) is not None
    )
