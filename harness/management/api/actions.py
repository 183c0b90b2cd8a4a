"""The calls that change something: they are checked at once, and carried out as jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.management.api.accounts import uid
from harness.management.api.call import ApiCall
from harness.management.api.chronicle import ROUTER_ALERT, EventLevel, EventState
from harness.management.api.fleet import watched
from harness.management.api.jobs import Work, new_job
from harness.management.api.lists import find_vm, may_see
from harness.management.api.problems import not_yours
from harness.management.api.rows import Row
from harness.management.inventory import NetworkRow, Vm, VpcRow
from harness.management.server import Restart, Tell


@dataclass(frozen=True)
class Action:
    """A call that changes something, as its events, its alert and its job tell it.

    Attributes:
        call: the call.
        kind: type of its events, such as ``NETWORK.RESTART``.
        what: what it does, for people.
        target: UUID of what it is about.
        instance: kind of that, as the job says it; empty where CloudStack's job does not.
        vms: the VMs that it touches, which are looked at again afterwards.
    """

    call: ApiCall
    kind: str
    what: str
    target: str
    instance: str
    vms: tuple[Vm, ...]

    def event(self, state: EventState, text: str, *, start: str = "", level: EventLevel = "INFO") -> str:
        """Record an event of it."""
        return self.call.service.chronicle.event(
            self.kind, state, text, self.call.caller, level=level, start=start,
            resource_type=self.instance or "SystemVm", resource=self.target,
        )  # fmt: skip

    def submit(self, work: Callable[[Tell], Mapping[str, Any]]) -> Row:
        """Make it a job; return the answer with the job's id."""
        call = self.call
        job = new_job(
            call.command.name,
            call.command.java,
            call.caller.name,
            call.get("customjobid", ""),
            self.target,
            self.instance,
        )
        call.service.jobs.accept(job)
        call.service.jobs.start(job.id, self._told(work))
        return {"jobid": job.id}

    def _told(self, work: Work) -> Work:
        """Return the work with its events, and an alert where it fails."""
        service = self.call.service
        start = self.event("Scheduled", f"{self.what}: scheduled")
        quiet = service.faithful is not None and self.kind == "LIVE.PATCH.SYSTEM.VM"

        def told(tell: Tell) -> Mapping[str, Any]:
            if not quiet:
                self.event("Started", f"{self.what}: started", start=start)
            try:
                with watched(self.vms, tell):
                    result = work(tell)
            except Exception as error:
                if not quiet:
                    self._failed(error, start)
                raise
            finally:
                service.watch.look(self.vms)
            if not quiet:
                self.event("Completed", f"{self.what}: completed", start=start)
            return result

        return told

    def _failed(self, error: Exception, start: str) -> None:
        text = f"{self.what}: failed: {error}"
        self.event("Completed", text, start=start, level="ERROR")
        if self.call.service.faithful is None:
            first = next(iter(self.vms), None)
            number = first.kind.alert if first is not None and first.type is not None else ROUTER_ALERT
            self.call.service.chronicle.alert(number, self.kind, text)


def patch_system_vm(call: ApiCall) -> Row:
    """Patch a console proxy or storage VM; a router is no VM for this call."""
    vm = find_vm(call, "id", "agent")
    service = call.service

    def work(tell: Tell) -> Mapping[str, Any]:
        patched = service.server.patch_system_vm(vm.id, forced=bool(call.get("forced")), tell=tell)
        # In the result of a job CloudStack calls the text "details", and nowhere else.
        return {"success": True, "details": patched.details}

    what = f"live patch of {vm.name}"
    return Action(call, "LIVE.PATCH.SYSTEM.VM", what, uid("vm", vm.id), "", (vm,)).submit(work)


def restart_network(call: ApiCall) -> Row:
    """Restart a network; with ``livepatch`` its routers are patched where they stand."""
    service = call.service
    found = [row for row in service.inventory.all_networks() if uid("network", row.id) == call.need("id")]
    if not found:
        raise call.unknown("id", "network")
    network = found[0]
    if not may_operate(call, network):
        raise not_yours(f"network {network.name or network.id}")
    vms = tuple(service.routers_of(network))

    def work(tell: Tell) -> Mapping[str, Any]:
        return _result(service.server.restart_network(network.id, **_wishes(call), tell=tell))

    what = f"restart of network {network.name or network.id}{_how(call)}"
    return Action(call, "NETWORK.RESTART", what, uid("network", network.id), "Network", vms).submit(work)


def restart_vpc(call: ApiCall) -> Row:
    """Restart a VPC; with ``livepatch`` its routers are patched where they stand."""
    service = call.service
    found = [row for row in service.inventory.all_vpcs() if uid("vpc", row.id) == call.need("id")]
    if not found:
        raise call.unknown("id", "VPC")
    vpc = found[0]
    if not may_operate(call, vpc):
        raise not_yours(f"VPC {vpc.name or vpc.id}")
    vms = service.inventory.routers_of_vpc(vpc.id)

    def work(tell: Tell) -> Mapping[str, Any]:
        return _result(service.server.restart_vpc(vpc.id, **_wishes(call), tell=tell))

    what = f"restart of VPC {vpc.name or vpc.id}{_how(call)}"
    return Action(call, "VPC.RESTART", what, uid("vpc", vpc.id), "Vpc", vms).submit(work)


def may_operate(call: ApiCall, row: NetworkRow | VpcRow) -> bool:
    """Say whether the caller may restart a network: a shared one that he only uses is not his."""
    return may_see(call, row) and (call.caller.role in {"Admin", "ResourceAdmin"} or bool(row.owner))


def _wishes(call: ApiCall) -> dict[str, bool]:
    return {
        "cleanup": bool(call.get("cleanup")),
        "make_redundant": bool(call.get("makeredundant")),
        "live_patch": bool(call.get("livepatch")),
    }


def _how(call: ApiCall) -> str:
    return " with a live patch" if call.get("livepatch") and not call.get("cleanup") else ""


def _result(done: Restart) -> dict[str, Any]:
    """Return what a restart ends with; the details are ours, where there is something to tell."""
    told = [f"{row.vm}: {row.details}" for row in done.vms] + list(done.notes)
    return {"success": True, "details": "; ".join(told) or None}


def reboot_system_vm(call: ApiCall) -> Row:
    """Reboot a console proxy or storage VM."""
    return _reboot(call, "agent", "SSVM.REBOOT")


def reboot_router(call: ApiCall) -> Row:
    """Reboot a router."""
    return _reboot(call, "router", "ROUTER.REBOOT")


def _reboot(call: ApiCall, family: str, kind: str) -> Row:
    vm = find_vm(call, "id", family)
    service = call.service

    def work(tell: Tell) -> Mapping[str, Any]:
        with service.server.turn(vm, tell):
            tell(f"{vm.name}: rebooting")
            service.fleet.reboot(vm)
        return {"success": True, "id": uid("vm", vm.id), "name": vm.name}

    return Action(call, kind, f"reboot of {vm.name}", uid("vm", vm.id), "", (vm,)).submit(work)
