"""Checks after a patch, for a job that succeeded proves nothing: judged from what was seen before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.record.events import Json
from harness.report.rows import Verdict
from harness.rollout.api import SLOW_TIMEOUT, Api
from harness.rollout.rows import text
from harness.rollout.survey import HEALTH
from harness.rollout.target import RolloutTarget, same_release
from harness.rollout.units import PatchUnit, UnitMember

# What checks of this room begin with.
SCRIPTS, STATE, ROLES, AGENT = "rollout.scripts", "rollout.state", "rollout.roles", "rollout.agent"
HEALTHY, PROBE = "rollout.health", "rollout.probe"


@dataclass(frozen=True)
class PatchFinding:
    """The finding of one check."""

    name: str
    verdict: Verdict
    reason: str = ""
    details: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """True unless it failed."""
        return self.verdict in {"passed", "skipped"}


def seen(unit: PatchUnit, failing: Mapping[str, list[str]]) -> dict[str, dict[str, Any]]:
    """Return what is kept of a unit's VMs before a patch, by id.

    Args:
        unit: as it was read.
        failing: names of health checks that failed, by VM id; a VM that tells none is not in it.
    """
    return {
        member.id: {
            "name": member.name,
            "scripts": member.scripts,
            "software": member.software,
            "role": member.role,
            "failing": failing.get(member.id),
        }
        for member in unit.members
    }


def judge(unit: PatchUnit, before: Mapping[str, Json], target: RolloutTarget) -> tuple[PatchFinding, ...]:
    """Return what one look at a unit after its patch shows.

    Args:
        unit: as it was read afterwards.
        before: what was seen before, by VM id.
        target: what must be installed.
    """
    found = [_state(unit, before), _scripts(unit, before, target)]
    if unit.kind == "system VM":
        found.append(_agent(unit, target))
    if any(row.get("role") for row in before.values()) or any(member.role for member in unit.routers):
        found.append(_roles(unit))
    return tuple(found)


def _state(unit: PatchUnit, before: Mapping[str, Json]) -> PatchFinding:
    here = {member.id for member in unit.members}
    wrong = [f"{member.name} is {member.state}" for member in unit.reached if member.state != "Running"]
    wrong += [f"{row['name']} is gone" for vm, row in before.items() if vm not in here]
    return PatchFinding(STATE, "failed" if wrong else "passed", "; ".join(wrong))


def _scripts(unit: PatchUnit, before: Mapping[str, Json], target: RolloutTarget) -> PatchFinding:
    if unit.kind == "system VM":
        return _offered(unit)
    wrong, details = [], []
    for member in unit.reached:
        had = before.get(member.id, {}).get("scripts", "")
        details.append(f"{member.name}: scripts {had or 'none'} -> {member.scripts or 'none'}")
        if not target.is_installed(member.scripts, member.software):
            wrong.append(_installed(member, had, target))
    for member in unit.members:
        if member.beyond:
            details.append(f"{member.name}: {member.beyond}")
    if not unit.reached:
        wrong.append("there is no VM of it any more")
    return PatchFinding(SCRIPTS, "failed" if wrong else "passed", "; ".join(wrong), tuple(details))


def _offered(unit: PatchUnit) -> PatchFinding:
    """Return what a server says of a system VM's scripts: CloudStack nothing, ours whether a patch is available."""
    told = [member for member in unit.reached if member.offered is not None]
    still = [member.name for member in told if member.offered]
    if still:
        return PatchFinding(SCRIPTS, "failed", f"{', '.join(still)}: the server still offers a live patch")
    return PatchFinding(
        SCRIPTS, "passed" if told else "skipped", "" if told else "the API tells no digest of a system VM"
    )


def _installed(member: UnitMember, had: str, target: RolloutTarget) -> str:
    if not target.digests:
        return f"{member.name}: scripts of {member.software or 'an unknown release'}, not {target.release}"
    still = "still " if member.scripts == had else ""
    return (
        f"{member.name}: scripts {still}{member.scripts[:12] or 'unknown'}…, not {target.digests[-1][:12]}…"
    )


def _roles(unit: PatchUnit) -> PatchFinding:
    told = [f"{member.name} {member.role or 'none'}" for member in unit.routers]
    if sorted(member.role for member in unit.routers) == ["BACKUP", "PRIMARY"]:
        return PatchFinding(ROLES, "passed", "", tuple(told))
    return PatchFinding(ROLES, "failed", f"not one PRIMARY and one BACKUP: {', '.join(told)}", tuple(told))


def _agent(unit: PatchUnit, target: RolloutTarget) -> PatchFinding:
    wrong = []
    for member in unit.reached:
        if member.agent != "Up":
            wrong.append(f"{member.name}: its agent is {member.agent or 'unknown'}")
        elif not member.software or not same_release(member.software, target.release):
            wrong.append(
                f"{member.name}: its agent is of {member.software or 'no release'}, not {target.release}"
            )
    return PatchFinding(AGENT, "failed" if wrong else "passed", "; ".join(wrong))


def failing_checks(api: Api, unit: PatchUnit) -> dict[str, list[str]]:
    """Run the health checks of a unit's routers and return the names of those that fail, by VM id.

    A router that tells no check at all is left out, so that it can be told from one whose checks all hold.

    Raises:
        Rejected: the server cannot run them.
        InfrastructureError: it does not answer.
    """
    found: dict[str, list[str]] = {}
    for member in unit.routers:
        answer = api.one(
            HEALTH, "routerhealthchecks", timeout=SLOW_TIMEOUT, routerid=member.id, performfreshchecks=True
        )
        rows = answer.get("healthchecks") or []
        if rows:
            found[member.id] = sorted(text(row, "checkname") for row in rows if _failed(row))
    return found


def _failed(row: Mapping[str, Json]) -> bool:
    """Say whether a check has failed; newer servers have words for it, and "no success" means a warning, too."""
    status = text(row, "status").upper()
    if status:
        return status in {"FAILED", "FAILURE"}
    return row.get("success") is False


def judge_health(unit: PatchUnit, before: Mapping[str, Json], after: Mapping[str, list[str]]) -> PatchFinding:
    """Return whether a health check fails that did not before.

    Args:
        unit: whose routers they are of.
        before: what was seen before, by VM id.
        after: names of the checks that fail now, by VM id.
    """
    wrong, details = [], []
    for member in unit.routers:
        had = before.get(member.id, {}).get("failing")
        now = after.get(member.id)
        if now is None:
            if had is not None:
                wrong.append(f"{member.name} tells no health check any more")
            continue
        new = sorted(set(now) - set(had or []))
        if new:
            wrong.append(f"{member.name}: {', '.join(new)}")
        details.append(
            f"{member.name}: failing before: {', '.join(had or []) or 'none'}; now: {', '.join(now) or 'none'}"
        )
    if not wrong and not details:
        return PatchFinding(HEALTHY, "skipped", "no router of it tells a health check")
    return PatchFinding(HEALTHY, "failed" if wrong else "passed", "; ".join(wrong), tuple(details))
