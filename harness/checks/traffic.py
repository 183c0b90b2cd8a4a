"""Traffic: whether users would have noticed."""

from __future__ import annotations

from harness.checks.case import LONG_STALL_MS, Case
from harness.checks.registry import Finding, HostStoodStill, Result, Skip, check
from harness.traffic.measurement import Budget

# From which stretch on it is worth a word.
_TOLD = 1.1
# From which on the host is crowded: seconds say little of the VM there, so a gap has to be many times its budget.
_CROWDED, _TIMES = 4.0, 2.0
# What may be lost in all, in budgets of one gap. Of 863 probes of healthy patches under emulation none lost 1.5.
_LOST = 3.0


@check("traffic.within-budget", "a gap longer than the budget is an outage that users see")
def within_budget(case: Case) -> Result:
    """No probe was without an answer for longer than its budget."""
    if not case.budgets:
        return Skip("no probe ran")
    wrong = tuple(
        f"{row.name}: no answer for {row.longest_gap_ms:.0f} ms, the budget is {row.budget_ms:.0f} ms{_busy(row)}"
        for row in case.budgets
        if row.sure_ms > row.budget_ms * (_TIMES if row.stretch >= _CROWDED else 1.0)
    )
    if wrong:
        return Finding("; ".join(wrong), wrong)
    # A gap that is too long for users, and that the host may have made: neither side may be blamed for it.
    unsure = [row for row in case.budgets if row.longest_gap_ms > row.budget_ms]
    if unsure:
        raise HostStoodStill("; ".join(map(_unsure, unsure)))
    return None


@check("traffic.few-lost", "requests that are lost one by one, or again and again, are an outage, too")
def few_lost(case: Case) -> Result:
    """No probe lost more requests than one sends in so many times the longest gap that it may have."""
    if not any(row.sent for row in case.budgets):
        return Skip("no probe sent a request")
    wrong = tuple(
        f"{row.name}: requests of {row.lost_ms:.0f} ms were lost, in gaps of {row.longest_gap_ms:.0f} ms at most; "
        f"{_LOST * row.budget_ms:.0f} ms may be{_busy(row)}"
        for row in case.budgets
        # One long gap has a check of its own.
        if row.lost_ms > _LOST * row.budget_ms and row.longest_gap_ms <= row.budget_ms
    )
    return _unless_stalled(case, wrong)


def _unless_stalled(case: Case, wrong: tuple[str, ...]) -> Result:
    """Return what is wrong as a finding; nobody may be blamed for it while the host itself stood still."""
    if wrong and case.stalled_ms > LONG_STALL_MS:
        raise HostStoodStill(
            f"{'; '.join(wrong)}; this host itself stood still for {case.stalled_ms:.0f} ms meanwhile"
        )
    return Finding("; ".join(wrong), wrong) if wrong else None


def _unsure(row: Budget) -> str:
    """Return why a gap says nothing of the VM."""
    said = f"{row.name}: no answer seen for {row.longest_gap_ms:.0f} ms"
    if row.longest_gap_ms > row.sure_ms:
        said += f", of which this host itself stood still for {row.longest_gap_ms - row.sure_ms:.0f} ms"
    return (
        f"{said}; the budget is {row.budget_ms:.0f} ms{_busy(row)}; repeat it while the host has less to do"
    )


def _busy(row: Budget) -> str:
    return f" on a host so busy that all took {row.stretch:.1f} times as long" if row.stretch >= _TOLD else ""


@check("traffic.streams", "a stream that breaks is a download that starts again")
def streams(case: Case) -> Result:
    """No more streams broke than the budget allows."""
    if not any(row.streams for row in case.budgets):
        return Skip("no probe opened a stream")
    wrong = tuple(
        f"{row.name}: {row.broken_streams} broken, {row.allowed_broken_streams} allowed"
        for row in case.budgets
        if row.broken_streams > row.allowed_broken_streams
    )
    return _unless_stalled(case, wrong)


@check("traffic.probed", "a probe that sent nothing proves nothing")
def probed(case: Case) -> Result:
    """Every probe really sent requests."""
    if not case.budgets:
        return Skip("no probe ran")
    idle = [row.name for row in case.budgets if not row.sent]
    return Finding(f"these sent nothing: {', '.join(idle)}") if idle else None
