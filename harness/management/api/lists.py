"""The calls that list: what is there, as far as the caller may see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bundle.errors import UsageError
from harness.management.api.accounts import TYPES, Account, uid
from harness.management.api.answers import date
from harness.management.api.call import ApiCall
from harness.management.api.jobs import Job
from harness.management.api.problems import not_yours
from harness.management.api.rows import Row, Rows, job_row, matches
from harness.management.inventory import NetworkRow, Vm, VpcRow


def _listed(call: ApiCall, rows: Sequence[Row]) -> Row:
    """Return the page that is asked for; ``count`` is of all rows, and an empty list is an empty object."""
    page = rows[call.page()]
    return {"count": len(rows), call.command.object: page} if page else {}


def _rows(call: ApiCall) -> Rows:
    jobs = {
        job.target: job.id
        for job in call.service.jobs.unfinished()
        if job.instance_type or job.command.startswith("reboot")
    }
    return Rows(call.service, call.caller, jobs)


@dataclass(frozen=True)
class Scope:
    """The owners whose objects a call is about.

    Attributes:
        call: the call.
    """

    call: ApiCall

    def has(self, row: NetworkRow | VpcRow | None) -> bool:
        """Say whether an object is asked for and may be seen.

        Without ``listall`` it is the caller's own; ``projectid=-1`` means those of projects, and with ``listall`` both.
        """
        if not may_see(self.call, row):
            return False
        wanted: str | None = self.call.get("projectid")
        everything = bool(self.call.get("listall")) or self.call.get("id") is not None
        if row is not None and row.project:
            return wanted in {"-1", uid("project", row.project)}
        if wanted is not None and not (wanted == "-1" and everything):
            return False
        owner = row.owner if row else "system"
        if (account := self.call.get("account")) is not None:
            return bool(owner == account)
        return everything or owner == self.call.caller.name or self._system(row)

    def _system(self, row: NetworkRow | VpcRow | None) -> bool:
        """Say whether it is the system's own, which belongs to the root admin's account as far as lists go."""
        return self.call.caller.role == "Admin" and (row is None or not row.owner)


def may_see(call: ApiCall, row: NetworkRow | VpcRow | None) -> bool:
    """Say whether the caller may see an object at all."""
    caller = call.caller
    if caller.role in {"Admin", "ResourceAdmin"}:
        return True
    if row is None or not row.owner:
        return isinstance(row, NetworkRow) and row.shared
    owner = call.service.accounts.named(row.owner)
    return owner.name == caller.name or (caller.role == "DomainAdmin" and caller.rules(owner.domain))


def _owner_of(call: ApiCall, vm: Vm) -> NetworkRow | VpcRow | None:
    inventory = call.service.inventory
    if vm.vpc:
        return inventory.vpcs.get(vm.vpc)
    return inventory.networks.get(vm.networks[0]) if vm.networks else None


def _vms(call: ApiCall, family: Iterable[str]) -> list[Vm]:
    families = frozenset(family)
    return [
        vm for vm in call.service.inventory.all_vms() if vm.type is not None and vm.kind.family in families
    ]


def list_system_vms(call: ApiCall) -> Row:
    """Return console proxies and storage VMs."""
    rows = _rows(call)
    wanted = _wanted(call, "id", "name", "state", "systemvmtype", "zoneid", "podid", "hostid", "arch")
    found = [
        row for vm in _vms(call, ["agent"]) if matches(row := rows.system_vm(vm), wanted, call.get("keyword"))
    ]
    return _listed(call, found)


def list_routers(call: ApiCall) -> Row:
    """Return routers."""
    return _routers(call, "router")


def list_balancers(call: ApiCall) -> Row:
    """Return internal load balancers."""
    return _routers(call, "balancer")


def _routers(call: ApiCall, family: str) -> Row:
    rows, scope = _rows(call), Scope(call)
    network_id = call.get("networkid")
    wanted = _wanted(
        call, "id", "name", "state", "zoneid", "podid", "hostid", "vpcid", "version", "healthchecksfailed", "arch"
    )  # fmt: skip
    found = []
    for vm in _vms(call, [family]):
        if network_id is not None and network_id not in {uid("network", name) for name in vm.networks}:
            continue
        if call.get("forvpc") is not None and bool(vm.vpc) != call.get("forvpc"):
            continue
        if scope.has(_owner_of(call, vm)) and matches(row := rows.router(vm), wanted, call.get("keyword")):
            if call.get("fetchhealthcheckresults"):
                row["healthcheckresults"] = call.service.health.get(vm.id) or None
            found.append(row)
    return _listed(call, found)


def list_networks(call: ApiCall) -> Row:
    """Return networks, tiers of VPCs among them."""
    rows, scope = _rows(call), Scope(call)
    wanted = _wanted(call, "id", "name", "zoneid", "restartrequired", "vpcid", "type", "state")
    found = [
        row
        for network in call.service.inventory.all_networks()
        if scope.has(network)
        and (call.get("forvpc") is None or bool(network.vpc) == call.get("forvpc"))
        and matches(row := rows.network(network), wanted, call.get("keyword"))
    ]
    return _listed(call, found)


def list_vpcs(call: ApiCall) -> Row:
    """Return VPCs."""
    rows, scope = _rows(call), Scope(call)
    wanted = _wanted(call, "id", "name", "zoneid", "restartrequired", "state")
    found = [
        row
        for vpc in call.service.inventory.all_vpcs()
        if scope.has(vpc) and matches(row := rows.vpc(vpc), wanted, call.get("keyword"))
    ]
    return _listed(call, found)


def _wanted(call: ApiCall, *names: str) -> dict[str, Any]:
    return {name: call.get(name) for name in names}


def list_zones(call: ApiCall) -> Row:
    """Return the zones that anything is in; there is always one."""
    found: list[Row] = [
        {
            "id": uid("zone", name),
            "name": name,
            "networktype": "Advanced",
            "allocationstate": "Enabled",
            "securitygroupsenabled": False,
            "localstorageenabled": False,
            "type": "Core",
        }
        for name in call.service.zones()
    ]
    return _listed(
        call, [row for row in found if matches(row, _wanted(call, "id", "name"), call.get("keyword"))]
    )


def count_infrastructure(call: ApiCall) -> Row:
    """Return how many there are of each kind; CloudStack's page shows system VMs to whom may ask for this."""
    vms = call.service.inventory.all_vms()

    def count(family: str) -> int:
        return sum(_is_of(vm, (family,)) for vm in vms)

    none = (
        "pods",
        "clusters",
        "storagepools",
        "imagestores",
        "backuprepositories",
        "objectstores",
        "cpusockets",
    )
    counts = {
        **dict.fromkeys(none, 0),
        "zones": len(call.service.zones()),
        "hosts": len({vm.location.host for vm in vms}),
        "systemvms": count("agent"),
        "routers": count("router"),
        "ilbvms": count("balancer"),
        "managementservers": 1,
        "alerts": len(call.service.chronicle.alerts()),
    }
    return {"infrastructure": counts}


def list_hosts(call: ApiCall) -> Row:
    """Return the hosts that VMs run on."""
    places = {(vm.location.host, vm.zone, vm.location.hypervisor) for vm in call.service.inventory.all_vms()}
    found: list[Row] = [
        {
            "id": uid("host", host),
            "name": host,
            "zoneid": uid("zone", zone),
            "zonename": zone,
            "state": "Up",
            "type": "Routing",
            "hypervisor": hypervisor,
            "resourcestate": "Enabled",
            "version": call.service.version,
        }
        for host, zone, hypervisor in sorted(places)
        if host
    ]
    wanted = _wanted(call, "id", "name", "type", "zoneid", "state")
    return _listed(call, [row for row in found if matches(row, wanted, call.get("keyword"))])


def list_management_servers(call: ApiCall) -> Row:
    """Return this server."""
    service = call.service
    own = uid("managementserver", service.name)
    row: Row = {"id": own, "name": service.name, "state": "Up", "version": service.version, "serverid": own}
    return _listed(call, [row])


def list_capabilities(call: ApiCall) -> Row:
    """Return what the server can do."""
    return {
        "capability": {
            "cloudstackversion": call.service.version,
            "dynamicrolesenabled": True,
            "defaultuipagesize": 20,
            "securitygroupsenabled": False,
            "supportELB": "false",
            "projectinviterequired": False,
            "allowusercreateprojects": False,
            "userpublictemplateenabled": False,
            "kvmsnapshotenabled": False,
            "regionsecondaryenabled": False,
            "allowuserviewdestroyedvm": False,
            "kubernetesserviceenabled": False,
            "instancesstatsretentiontime": 0,
        }
    }


def list_users(call: ApiCall) -> Row:
    """Return the users that the caller rules: a user sees himself."""
    found = [_user(account) for account in call.service.accounts if _rules(call.caller, account)]
    wanted = _wanted(call, "id", "username", "account")
    return _listed(call, [row for row in found if matches(row, wanted, call.get("keyword"))])


def _rules(caller: Account, account: Account) -> bool:
    if caller.role in {"Admin", "ResourceAdmin"} or caller.name == account.name:
        return True
    return caller.role == "DomainAdmin" and caller.rules(account.domain)


_ROLE_NAMES = {
    "Admin": "Root Admin",
    "ResourceAdmin": "Resource Admin",
    "DomainAdmin": "Domain Admin",
    "User": "User",
}


def _user(account: Account) -> Row:
    return {
        "id": account.user_id,
        "username": account.name,
        "firstname": account.name,
        "lastname": account.name,
        "account": account.name,
        "accountid": account.id,
        "accounttype": int(TYPES[account.role]),
        "roleid": uid("role", account.role),
        "rolename": _ROLE_NAMES[account.role],
        "roletype": account.role,
        "domainid": account.domain_id,
        "domain": account.domain,
        "state": "enabled" if account.enabled else "disabled",
        "usersource": "native",
    }


def list_configurations(call: ApiCall) -> Row:
    """Return the settings that decide about system VMs."""
    settings: list[Row] = [
        {
            "category": "Advanced",
            "name": name,
            "value": value,
            "description": text,
            "scope": scope,
            "isdynamic": False,
        }
        for name, value, text, scope in call.service.settings()
    ]
    return _listed(
        call, [row for row in settings if matches(row, _wanted(call, "name"), call.get("keyword"))]
    )


def list_events(call: ApiCall) -> Row:
    """Return what has happened to what the caller may see, the newest first."""
    found: list[Row] = []
    for event in call.service.chronicle.events():
        account = call.service.accounts.named(event.account)
        if not _rules(call.caller, account):
            continue
        found.append(
            {
                "id": event.id,
                "type": event.type,
                "state": event.state,
                "level": event.level,
                "description": event.description,
                "username": event.account,
                "account": event.account,
                "domainid": account.domain_id,
                "domain": account.domain.rpartition("/")[2],
                "created": date(event.created),
                "parentid": event.start if event.start != event.id else None,
                "resourcetype": event.resource_type or None,
                "resourceid": event.resource or None,
            }
        )
    wanted = _wanted(call, "id", "type", "level", "state", "resourceid")
    return _listed(call, [row for row in found if matches(row, wanted, None) and _has_word(row, call)])


def list_alerts(call: ApiCall) -> Row:
    """Return the alerts, the newest first."""
    found: list[Row] = [
        {
            "id": alert.id,
            "type": alert.number,
            "name": alert.name,
            "description": alert.description,
            "sent": date(alert.sent),
        }
        for alert in call.service.chronicle.alerts()
    ]
    wanted = _wanted(call, "id", "type", "name")
    return _listed(call, [row for row in found if matches(row, wanted, None) and _has_word(row, call)])


def _has_word(row: Mapping[str, Any], call: ApiCall) -> bool:
    word = call.get("keyword")
    return word is None or word.lower() in str(row["description"]).lower()


def query_job(call: ApiCall) -> Row:
    """Return where a job stands."""
    job = call.service.jobs.find(call.need("jobid"))
    if job is None:
        raise call.unknown("jobid", "job")
    if not _may_ask(call, job):
        raise not_yours("the job")
    return job_row(call.service, job)


def _may_ask(call: ApiCall, job: Job) -> bool:
    return _rules(call.caller, call.service.accounts.named(job.account)) or job.account == call.caller.name


def list_jobs(call: ApiCall) -> Row:
    """Return the jobs in progress: the caller's own, or with ``listall`` all that he may ask for."""
    since = call.get("startdate") or 0.0
    found = [
        job_row(call.service, job)
        for job in call.service.jobs.unfinished()
        if job.created >= since
        and (job.account == call.caller.name or (call.get("listall") and _may_ask(call, job)))
    ]
    return _listed(call, found)


def health_checks(call: ApiCall) -> Row:
    """Return what a router's health checks say; fresh ones are made now, others are those of the last time."""
    vm = find_vm(call, "routerid", "router")
    checks = call.service.server.check_health(vm, fresh=bool(call.get("performfreshchecks")))
    rows = [
        {
            "checkname": check.name,
            "checktype": check.kind,
            "success": check.status == "SUCCESS",
            "status": check.status,
            "lastupdated": date(check.at),
            "details": check.details or None,
        }
        for check in checks
    ]
    call.service.health[vm.id] = rows
    return {"routerhealthchecks": {"routerid": uid("vm", vm.id), "healthchecks": rows}}


def find_vm(call: ApiCall, parameter: str, *families: str) -> Vm:
    """Return the VM that a parameter names.

    Raises:
        ApiError: 431, there is none of these families; 531, it is somebody else's.
    """
    wanted = call.need(parameter)
    for vm in call.service.inventory.all_vms():
        if uid("vm", vm.id) == wanted and _is_of(vm, families):
            if vm.kind.family != "agent" and not may_see(call, _owner_of(call, vm)):
                raise not_yours("the VM")
            return vm
    raise call.unknown(parameter, "system VM" if "agent" in families else "router")


def _is_of(vm: Vm, families: Sequence[str]) -> bool:
    try:
        return vm.kind.family in families
    except UsageError:
        return False


def no_cloudian(_: ApiCall) -> Row:
    """Return that Cloudian is not connected."""
    return {"cloudianisenabled": {"enabled": False}}


def nothing(name: str) -> Callable[[ApiCall], Row]:
    """Return a handler for a list that is always empty here; CloudStack's UI asks for it."""

    def empty(call: ApiCall) -> Row:
        call.page()
        return {}

    empty.__doc__ = f"Return no {name}."
    return empty
