"""Identity: key store, trust store and the VM agent's properties survive."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.checks.case import Case
from harness.checks.registry import Finding, Result, Skip, check

# What makes the agent another one when somebody adds it; a release may add others.
_WHO = ("resource", "instance", "guid", "host", "port", "zone", "pod", "workers")
_SECRET = re.compile("pass|secret|key|token", re.IGNORECASE)


@check("identity.keystore", "an agent without its key cannot prove who it is: the server refuses it")
def keystore(case: Case) -> Result:
    """The key store has the entries that it had."""
    return _same(case.before.identity.keystore, case.after.identity.keystore, "the VM has no key store")


@check("identity.truststore", "an agent that lost a CA trusts neither the server nor the storage")
def truststore(case: Case) -> Result:
    """The trust store has lost no certificate; new ones are welcome."""
    before, after = case.before.identity.truststore, case.after.identity.truststore
    if not before:
        return Skip("the VM has no trust store, or an empty one")
    if after is None:
        return Finding("the trust store is gone")
    lost = sorted(name for name, digest in before.items() if digest not in after.values())
    if lost:
        return Finding(
            f"{len(lost)} of {len(before)} certificates are lost: {', '.join(lost[:4])}", tuple(lost)
        )
    return None


@check("identity.agent-properties", "an agent with another resource or host serves something else, or nobody")
def agent_properties(case: Case) -> Result:
    """The agent is who it was: every property that it had is there, with its value, and none more that says who."""
    before, after = case.before.identity.properties, case.after.identity.properties
    if not before:
        return Skip("the VM runs no agent")
    if after is None:
        return Finding("agent.properties is gone")
    wrong = [
        f"{key} was {_shown(key, before.get(key))} and is {_shown(key, after.get(key))}"
        for key in dict.fromkeys((*before, *_WHO))
        if before.get(key) != after.get(key)
    ]
    return Finding("; ".join(wrong), tuple(wrong)) if wrong else None


@check("identity.agent-connected", "an agent that does not come back is a VM that serves nobody")
def agent_connected(case: Case) -> Result:
    """The agent is connected again, in time, with the same certificate and for the same resource."""
    link = case.agent
    if link is None:
        return Skip("the VM has no agent that connects to the server")
    if not link.after:
        return Finding(f"the agent did not come back within {link.limit:g} s")
    if link.after != link.before:
        return Finding(
            f"the agent shows another certificate: {link.before[:12]}… before, {link.after[:12]}… now"
        )
    if link.resource_after != link.resource_before:
        return Finding(f"the agent served {link.resource_before} and serves {link.resource_after}")
    if link.away > link.limit:
        return Finding(f"the agent was away for {link.away:.1f} s, {link.limit:g} s are allowed")
    return None


def _same(before: Mapping[str, str] | None, after: Mapping[str, str] | None, absent: str) -> Result:
    if before is None and after is None:
        return Skip(absent)
    if before is None:
        return Skip("there was none before: the server provisions it in its own time")
    if after is None:
        return Finding("it is gone")
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return Finding(f"entries differ: {', '.join(changed)}", tuple(changed)) if changed else None


def _shown(key: str, value: str | None) -> str:
    if value is None:
        return "missing"
    return "(a secret)" if _SECRET.search(key) else repr(value)
