"""Console and journal: a guest that complains is not well, whatever its services say."""

from __future__ import annotations

from harness.checks.case import Case
from harness.checks.registry import Finding, Result, Skip, check
from harness.observe import console_log, journal


@check("console.quiet", "a panic, a lockup or a full memory is worse than any failed patch")
def console_quiet(case: Case) -> Result:
    """The serial console shows no line that a healthy guest never prints."""
    seen = console_log.scan(case.console)
    lines = tuple(
        f"{row.meaning}: {row.line}" for row in seen if row.is_fatal or not case.is_on_purpose(row.line)
    )
    if not lines:
        return None
    return Finding(f"{lines[0]}" + (f" (and {len(lines) - 1} more lines)" if len(lines) > 1 else ""), lines)


@check("journal.quiet", "the first sign of trouble is a warning that nobody read")
def journal_quiet(case: Case) -> Result:
    """Every line of priority warning or worse since the start is on the reviewed list."""
    if not case.before.journal.cursor:
        return Skip("the VM had no journal before, so nothing says where the new lines begin")
    if silent := [when for when, moment in case.moments() if not moment.journal.cursor]:
        return Finding(f"the journal has lost every line, {silent[0]}")
    if cut := [when for when, moment in case.moments() if not moment.journal.is_whole]:
        return Finding(f"the journal has lost lines that it had, {cut[0]}: what else it said is not known")
    seen = case.patched.journal.lines
    if case.after is not case.patched:
        seen = seen + case.after.journal.lines
    unread = (str(line) for line in journal.unexpected(tuple(dict.fromkeys(seen))))
    lines = tuple(line for line in unread if not case.is_on_purpose(line))
    if not lines:
        return None
    return Finding(f"{len(lines)} unreviewed {'line' if len(lines) == 1 else 'lines'}: {lines[0]}", lines)


@check("journal.no-cores", "a program that dumped core has crashed")
def no_cores(case: Case) -> Result:
    """No program has crashed: neither journal nor kernel say so, and no core file lies about that was not there."""
    new = sorted(set(case.after.journal.cores) - set(case.before.journal.cores))
    if new:
        return Finding(f"core files: {', '.join(new)}", tuple(new))
    if not case.before.journal.cursor:
        return Skip("the VM had no journal before, so nothing says where the new lines begin")
    seen = dict.fromkeys(line for _, moment in case.moments() for line in moment.journal.crashes)
    lines = tuple(line for line in seen if not case.is_on_purpose(line))
    return Finding(f"crashed: {lines[0]}", lines) if lines else None
