"""Judgement on a unit, from what was read of it: a patch needed or not, possible or not, and what to know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from bundle.catalogue import Catalogue
from bundle.errors import UsageError
from bundle.matrix import SupportVerdict, SupportWord, judge
from bundle.version import span
from bundle.vm_types import Served
from harness.rollout.kinds import parts_of, router_name, type_name
from harness.rollout.rows import ABLE, ListedVm
from harness.rollout.survey import Cloud
from harness.rollout.target import RolloutTarget
from harness.rollout.units import PatchUnit, UnitMember

UnitStanding: TypeAlias = Literal["patch", "current", "blocked"]
_WORST: tuple[SupportWord, ...] = ("yes", "caveat", "unknown", "no")
_RUNNING_STATES = {"Implemented", "Setup", "Enabled"}


@dataclass(frozen=True)
class UnitJudgement:
    """The judgement on a unit: what is to be done with it.

    Attributes:
        standing: ``patch``; ``current`` when nothing is to do; ``blocked`` when it cannot be done.
        needs: why it needs a patch, a line a VM.
        blocks: why it cannot be done.
        warnings: what a person should know before it is done; of one that is current also what would block it, such as
            two primaries.
        verdicts: of the catalogue, by template.
    """

    standing: UnitStanding
    needs: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    verdicts: Mapping[str, str] | None = None


@dataclass(frozen=True)
class UnitJudge:
    """Judges units of one cloud against one target.

    Attributes:
        cloud: what was read.
        target: what is to be installed.
        catalogue: says which template may be patched.
        accept_unknown: whether templates that the catalogue knows nothing about are patched, too.
    """

    cloud: Cloud
    target: RolloutTarget
    catalogue: Catalogue
    accept_unknown: bool = False

    def unit(self, unit: PatchUnit) -> UnitJudgement:
        """Return what is to be done with a unit."""
        verdicts = self._verdicts(unit)
        needs = tuple(filter(None, (self._need(member) for member in unit.reached)))
        blocks = (*self._state_blocks(unit), *self._verdict_blocks(unit, verdicts))
        warnings = tuple(self._warnings(unit, verdicts))
        words = {name: self._word(unit, verdict)[0] for name, verdict in verdicts.items()}
        if not needs and unit.reached:
            return UnitJudgement("current", (), (), tuple(dict.fromkeys((*blocks, *warnings))), words)
        return UnitJudgement(
            "blocked" if blocks else "patch", needs, tuple(dict.fromkeys(blocks)), warnings, words
        )

    def _need(self, member: UnitMember) -> str:
        """Return why a VM needs a patch; empty when it has what is to be installed."""
        target = self.target
        if "agent" in parts_of(member.kind):
            # CloudStack has no digest of its scripts: only what its agent reported can be compared.
            if member.offered:
                return f"{member.name}: the server offers a live patch"
            if member.software and RolloutTarget(target.release).is_installed("", member.software):
                return ""
            return f"{member.name}: agent {member.software or 'unknown'}, not {target.release}"
        installed = target.is_installed(member.scripts, member.software)
        if installed:
            return ""
        if installed is None:
            return f"{member.name}: the server has stored no {'digest' if target.digests else 'release'} of its scripts"
        if target.digests:
            return f"{member.name}: scripts {member.scripts[:12]}…, not {target.digests[-1][:12]}…"
        return f"{member.name}: scripts of {member.software}, not {target.release}"

    def _state_blocks(self, unit: PatchUnit) -> Iterable[str]:
        if not unit.reached:
            why = unit.members[0].beyond if unit.members else "it has no router"
            yield f"no VM of it is reached by {unit.command}: {why}"
        if unit.kind == "VPC" and not unit.tiers:
            yield "a VPC without tiers: restartVPC reaches no router of it"
        if unit.kind != "system VM" and unit.state not in _RUNNING_STATES:
            yield f"its state is {unit.state}: the server restarts only what is implemented"
        for member in unit.reached:
            if member.state != "Running":
                later = "it gets the server's scripts when it starts"
                yield f"{member.name} is {member.state}: a live patch passes it over, {later}"
        if unit.command not in self.cloud.calls:
            yield f"this account may not call {unit.command}"
        elif unit.command != "patchSystemVm" and not self._offers_live_patch(unit.command):
            yield f"{unit.command} of this server knows no live patch"
        yield from pair_blocks(unit)
        there = {row.hypervisor for row in self._rows(unit) if row.hypervisor}
        strange = {name for name in there if name.lower() not in ABLE}
        for name in sorted(strange):
            yield f"agents of {name} know no live patch"

    def _offers_live_patch(self, command: str) -> bool:
        parameters = self.cloud.calls[command]
        # A server that tells no parameters at all says nothing about this one.
        return "livepatch" in parameters or not parameters

    def _rows(self, unit: PatchUnit) -> list[ListedVm]:
        there = self.cloud.by_id
        return [there[member.id] for member in unit.reached if member.id in there]

    def _verdicts(self, unit: PatchUnit) -> dict[str, SupportVerdict]:
        found = {}
        for member in unit.reached:
            if member.template and member.template not in found:
                try:
                    found[member.template] = judge(
                        member.template, self.target.release, self.catalogue, self.target.script
                    )
                except UsageError:
                    continue
        return found

    @staticmethod
    def _word(unit: PatchUnit, verdict: SupportVerdict) -> tuple[SupportWord, str]:
        """Return the worst word on a unit's types of VMs, and why: what is said of other types does not count."""
        found = [verdict.for_type(name) for name in sorted(vm_types(unit))]
        word, reason = max(found, key=lambda each: _WORST.index(each[0]))
        return word, reason.text

    def _verdict_blocks(self, unit: PatchUnit, verdicts: dict[str, SupportVerdict]) -> Iterable[str]:
        anyway = "--accept-unknown patches it all the same"
        for template, verdict in verdicts.items():
            word, said = self._word(unit, verdict)
            if word == "no":
                yield f"template {template}: {verdict.action} ({said})"
            elif word == "unknown" and not self.accept_unknown:
                yield f"template {template}: {said}; {anyway}"
        unknown = [member.name for member in unit.reached if member.template not in verdicts]
        if unknown and not self.accept_unknown:
            yield f"the template of {', '.join(unknown)} is of no known version; {anyway}"

    def _warnings(self, unit: PatchUnit, verdicts: dict[str, SupportVerdict]) -> Iterable[str]:
        for template, verdict in verdicts.items():
            types = vm_types(unit)
            for reason in verdict.reasons:
                if reason.verdict == "caveat" and (not reason.types or types & set(reason.types)):
                    yield f"template {template}: {reason.text}"
        yield from (
            f"{member.name}: {member.beyond}: it stays as it is" for member in unit.members if member.beyond
        )
        if unit.kind == "VPC" and unit.tiers > 1:
            yield f"{unit.tiers} tiers: CloudStack patches each of its routers {unit.tiers} times in a row"
        if unit.id in self.cloud.due:
            yield "a restart of it was due before: what the restart renews may be more than the patch"
        yield from self._gate(unit)
        failed = [row.name for row in self._rows(unit) if row.healthy is False]
        if failed:
            yield f"health checks of {', '.join(failed)} have failed before"

    def _gate(self, unit: PatchUnit) -> Iterable[str]:
        """Say where the server will send nothing to a router unless its digest is the server's own."""
        minimum = self.cloud.minimum.get(unit.zone, "")
        if self.target.digests:
            rest = "the digest after the patch decides, and it must be that of the server's own archive"
        else:
            rest = "give --scripts-digest with the server's own archive, to see whether it will match"
        for template in sorted({member.template for member in unit.routers if member.template}):
            if minimum and _older(template, minimum):
                yield (
                    f"template {template} is below minreq.sysvmtemplate.version {minimum}: the server sends its "
                    f"routers no command unless the digest of their scripts is the server's ({rest})"
                )


def vm_types(unit: PatchUnit) -> frozenset[str]:
    """Return the catalogue's types of a unit's VMs."""
    serves: Served = "vpc" if unit.kind == "VPC" else "network"
    rules = unit.kind != "shared network"
    return frozenset(
        type_name(member.kind) if member.kind != "router" else router_name(serves, rules=rules)
        for member in unit.reached
    )


def pair_blocks(unit: PatchUnit) -> Iterable[str]:
    """Say what is wrong with the roles of a pair: both would be down when the only good one is patched."""
    if not any(member.role for member in unit.routers):
        return
    roles = sorted(member.role or "none" for member in unit.routers)
    if roles != ["BACKUP", "PRIMARY"]:
        told = ", ".join(f"{member.name} {member.role or 'none'}" for member in unit.routers)
        yield f"not one PRIMARY and one BACKUP: {told}"


def _older(template: str, minimum: str) -> bool:
    try:
        return span(template)[0] < span(minimum)[0]
    except UsageError:
        return False
