"""Flows: connections between others that go through the VM are still tracked, also those that are silent."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.checks.case import Case
from harness.checks.registry import Result, Skip, check, found
from harness.observe.conntrack import TrackedConnection
from harness.observe.observation import Observation

_ADDRESS = re.compile(r" has address ([0-9a-f.:]+)/")
# Seconds that a kernel remembers a connection that was ended in order: a flow that is gone earlier was not ended.
_REMEMBERED = 100.0


@check(
    "flows.tracked",
    "a connection that a router has forgotten is answered by nobody: a database's, or a shell's, that was silent",
)
def tracked(case: Case) -> Result:
    """Every established connection between others that went through the VM is still tracked."""
    then, skipped, lost = case.before, "", []
    for when, moment in case.moments():
        told = _lost(case, then, moment)
        if isinstance(told, Skip):
            skipped = skipped or told.reason
        else:
            lost += [f"the connection from {flow} is forgotten ({when})" for flow in told]
        then = moment
    return found(lost) if lost or not skipped else Skip(skipped)


def _lost(case: Case, before: Observation, after: Observation) -> list[TrackedConnection] | Skip:
    """Return the connections that one moment knew and the next does not, or why that cannot be said."""
    if before.flows is None or after.flows is None:
        return Skip("the VM shows no tracked connections")
    if after.state.taken - before.state.taken > _REMEMBERED:
        return Skip(f"more than {_REMEMBERED:.0f} s lie between: what ended in order is forgotten by now")
    own = set(_own_addresses(before))
    through = [
        flow
        for flow, state in before.flows.items()
        if state == "ESTABLISHED" and flow.source not in own and flow.replier not in own
    ]
    if not through:
        return Skip("no connection went through the VM just before")
    lost = [flow for flow in sorted(through) if flow not in after.flows]
    if lost and not case.all_flows_known and len(lost) * 2 <= len(through):
        # One that is reset is forgotten after seconds; whose they are, nobody here knows.
        return Skip(f"{len(lost)} of {len(through)} connections have ended meanwhile, by whatever")
    return lost


def _own_addresses(moment: Observation) -> Iterator[str]:
    addresses = moment.rules.get("addresses")
    for line in (addresses.lines if addresses else None) or ():
        yield from _ADDRESS.findall(line)
