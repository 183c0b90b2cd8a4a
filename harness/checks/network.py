"""The VM's reachability: its listening ports, and above all sshd."""

from __future__ import annotations

from harness.checks.case import Case
from harness.checks.registry import CannotLook, Finding, Result, Skip, check
from harness.observe import reviewed
from harness.observe.observation import Observation
from harness.observe.sockets import Listener


@check("ports.open", "a port that nobody listens on any more is an outage")
def still_open(case: Case) -> Result:
    """Every port that was open is open, on the same address."""
    after = {listener.where for listener in case.after.listeners}
    if not _lasting(case.before):
        return Skip("nobody listened on any port before")
    closed = [listener for listener in _lasting(case.before) if listener.where not in after]
    return _finding("nobody listens any more on", closed)


@check("ports.none-new", "a port that nobody asked for is a way in")
def none_new(case: Case) -> Result:
    """No port is open that was not, also not on another address."""
    before = {listener.where for listener in case.before.listeners}
    if not case.after.listeners:
        return Skip("nobody listens on any port")
    opened = [
        listener
        for listener in dict.fromkeys(case.patched.listeners + case.after.listeners)
        if listener.where not in before and (listener.is_lasting or not _is_drawn(listener))
    ]
    return _finding("somebody listens now on", opened)


@check(
    "sockets.same",
    "a socket that nobody asked for is a way in; one that is gone is a service that does not answer",
)
def other_sockets(case: Case) -> Result:
    """The UNIX, raw and packet sockets that wait for somebody are the ones from before."""
    before = case.before.other_sockets
    wrong = []
    for when, moment in case.moments():
        after = moment.other_sockets
        if before is None or after is None:
            raise CannotLook("the VM did not say which UNIX, raw and packet sockets it has")
        wrong += [f"{name} was not there before ({when})" for name in sorted(after - before)]
        wrong += [f"{name} is gone ({when})" for name in sorted(before - after)]
    wrong = [line for line in wrong if not reviewed.excuses("socket", line.rpartition(" (")[0])]
    return Finding(wrong[0], tuple(wrong)) if wrong else None


@check("sshd.control-only", "sshd on the public side lets the whole world try")
def control_only(case: Case) -> Result:
    """The SSH daemon listens on the control address and nowhere else, or where it listened before the patch."""
    if not case.control_address:
        return Skip("the control address is not known")
    own = [row for row in case.after.listeners if _is_sshd(case, row)]
    if not own:
        return Finding(f"nobody listens on port {case.ssh_port}: the next login will fail")
    before = {row.where for row in case.before.listeners if _is_sshd(case, row)}
    strange = [row for row in own if row.address != case.control_address and row.where not in before]
    if strange:
        return Finding(f"sshd listens on {strange[0].where}, not only on {case.control_address}")
    return None


@check("sshd.host-keys", "new host keys look like an attack to everybody who logs in")
def host_keys(case: Case) -> Result:
    """The host keys are the ones from before."""
    before, after = case.before.identity.host_keys, case.after.identity.host_keys
    if not before:
        return Skip("the VM had no host keys")
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return Finding(f"changed: {', '.join(changed)}") if changed else None


def _lasting(moment: Observation) -> list[Listener]:
    return [listener for listener in moment.listeners if listener.is_lasting]


def _is_drawn(listener: Listener) -> bool:
    """True if its programs are known to take whatever port the kernel gives them."""
    programs = listener.programs or ("the kernel",)
    return all(reviewed.excuses("socket", f"{listener.protocol} {name}") for name in programs)


def _is_sshd(case: Case, listener: Listener) -> bool:
    return "sshd" in listener.programs or _is_ssh_port(case, listener)


def _is_ssh_port(case: Case, listener: Listener) -> bool:
    return listener.protocol == "tcp" and listener.port == case.ssh_port


def _finding(what: str, listeners: list[Listener]) -> Result:
    if not listeners:
        return None
    return Finding(f"{what} {', '.join(map(str, listeners[:4]))}", tuple(map(str, listeners)))
