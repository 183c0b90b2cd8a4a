"""Rule sets: the same before the patch, right after it, and once rules were sent again."""

from __future__ import annotations

from collections.abc import Callable

from harness.checks.case import Case
from harness.checks.registry import Finding, Result, Skip, check
from harness.observe import rules

# Rule set, and who notices when it is not what it was.
_SETS = {
    "iptables": "packets go where they should not, or nowhere",
    "ip6tables": "packets go where they should not, or nowhere",
    "ipset": "egress rules match the wrong addresses",
    "nft": "packets go where they should not, or nowhere",
    "legacy": "packets go where they should not: the kernel has both kinds of tables, and obeys both",
    "shaping": "tenants get less or more of the line than they pay for",
    "xfrm": "what a tunnel should protect goes out in the clear, or nowhere",
    "neighbours": "packets to an address go to a machine that does not have it",
    "addresses": "a public address that is gone takes everything behind it along",
    "routes": "tenants lose the way out",
    "policy": "traffic of additional public NICs leaves through the wrong one",
    "policy6": "traffic of additional public NICs leaves through the wrong one",
    "haproxy": "a load balancer without its listener refuses every customer",
    "haproxy-servers": "a load balancer without its servers answers 503",
    "dhcp-hosts": "a tenant that renews its lease gets no address or another one",
    "leases": "a tenant that renews its lease gets no address or another one",
    "dns": "tenants do not find each other by name",
    "dnsmasq": "tenants get other options by DHCP, or another domain",
    "metadata": "a tenant that boots does not find its user data or key",
    "metadata-access": "a tenant gets the user data of another one, or none",
    "vpn": "users of the VPN cannot log in",
    "remembered": "an address that CloudStack's scripts forget, or know otherwise, is taken away with the next rule",
}

# What is asked of haproxy itself.
_BY_CONTROL_SOCKET = {"haproxy", "haproxy-servers"}


def _told(name: str, before: rules.RuleSet, after: rules.RuleSet, changes: list[str]) -> str:
    """Return in words what became of a rule set; one that is gone or new as a whole is named."""
    if after.lines is None:
        return f"no rules of {name} are there any more ({len(before.lines or ())} lines before)"
    if before.lines is None:
        return f"rules of {name} are there that were not before ({len(after.lines)} lines)"
    gone = sum(line.startswith("-") for line in changes)
    return f"{gone} gone, {len(changes) - gone} new: {changes[0]}"


def _compare(name: str) -> Callable[[Case], Result]:
    def judge(case: Case) -> Result:
        before = case.before.rules.get(name)
        if before is None or (before.lines is None and case.after.rules[name].lines is None):
            return Skip("this VM has no such rule set")
        if before.lines is None and name in _BY_CONTROL_SOCKET:
            return Skip(
                "haproxy had no control socket before: servers up to 4.17 send a configuration without one"
            )
        for when, moment in case.moments():
            changes = rules.compare(before, moment.rules[name])
            if changes and not _is_mended(case, name, moment.rules[name]):
                return Finding(f"{when}: {_told(name, before, moment.rules[name], changes)}", tuple(changes))
        return None

    judge.__doc__ = f"The rule set {name} is the one from before the patch."
    return judge


def _is_mended(case: Case, name: str, now: rules.RuleSet) -> bool:
    """Return whether a set is as it was before an earlier patch lost it: that patch was blamed, this one is not."""
    earlier = case.earlier
    if earlier is None or earlier.expected != "kept" or name not in earlier.before.rules:
        return False
    was = earlier.before.rules[name]
    lost = any(rules.compare(was, moment.rules[name]) for _, moment in earlier.moments())
    return lost and not rules.compare(was, now)


for _name, _why in _SETS.items():
    check(f"rules.{_name}", _why)(_compare(_name))


@check(
    "rules.none-doubled",
    "each patch that adds a rule once more makes every packet slower, and hides what is in force",
)
def none_doubled(case: Case) -> Result:
    """No packet filter rule stands there more often than before."""
    sets = {
        name: (case.before.rules[name], case.after.rules[name])
        for name in ("iptables", "ip6tables")
        if all(name in moment.rules and moment.rules[name].lines for moment in (case.before, case.after))
    }
    if not sets:
        return Skip("this VM has no packet filter")
    for name, (before, after) in sets.items():
        if new := sorted(set(rules.doubled(after)) - set(rules.doubled(before))):
            return Finding(f"{name} has a rule twice: {new[0]}", tuple(new))
    return None
