"""The script's answer, everybody's belief afterwards, and whether these are the same."""

from __future__ import annotations

from harness.checks.case import Case
from harness.checks.registry import Finding, Result, Skip, check

_NO_ANSWER = Skip("no patch was run through the agent")


@check("answer.outcome", "a failed patch that is called a success is never looked at again")
def outcome(case: Case) -> Result:
    """The agent's verdict is the expected one."""
    if case.answer is None:
        return _NO_ANSWER
    if case.expected == "patched" and not case.answer.success:
        said = tuple(case.answer.details.splitlines())
        return Finding(f"the patch failed: {_first_line(case.answer.details)}", (*said, *case.log))
    if case.expected == "patched" and not case.answer.patched:
        return Finding(f"nothing was patched: {_first_line(case.answer.details)}")
    if case.expected == "kept" and case.answer.patched:
        return Finding("the patch reported success, although it had to fail")
    return None


@check(
    "answer.protocol",
    "an answer with one line or colon too many leaves the router frozen: its version is unknown",
)
def protocol(case: Case) -> Result:
    """A successful script prints exactly one version line."""
    if case.answer is None:
        return _NO_ANSWER
    if case.answer.fault and case.answer.legible:
        return Skip(
            f"the script says more than its version, and CloudStack's agent reads it: {case.answer.fault}"
        )
    if case.answer.fault:
        return Finding(case.answer.fault, tuple(case.answer.output.splitlines()[:20]))
    return None


@check(
    "version.agreement",
    "when bundle, VM and server disagree, the VM is patched again or refused",
    ("patched",),
)
def agreement(case: Case) -> Result:
    """Bundle, VM, kept archive, answer and management name the same signature."""
    scripts = case.patched.scripts
    said = {
        "the VM's signature file": scripts.signature,
        "the VM's answer": case.answer.scripts_version if case.answer and case.answer.ran else None,
        "the management server": case.recorded,
    }
    for who, signature in said.items():
        if signature is not None and signature != case.signature:
            return Finding(f"{who} says {_short(signature)}, the bundle is {_short(case.signature)}")
    if not scripts.kept_matches:
        return Finding("the archive that the VM kept is not the one that its signature names")
    return None


@check("version.kept", "a failed patch that leaves another signature is never repeated", ("kept",))
def kept(case: Case) -> Result:
    """The signature is the one from before, and so is what the server believes."""
    old, new = case.before.scripts, case.patched.scripts
    if not old.signature and not new.signature:
        return Skip("the VM names no signature")
    if new.signature != old.signature:
        return Finding(f"the signature was {_short(old.signature)} and is {_short(new.signature)}")
    if old.kept_matches and not new.kept_matches:
        return Finding("the archive that the VM kept is not the one that its signature names any more")
    if case.recorded is not None and case.recorded != old.signature:
        return Finding(
            f"the management server believes {_short(case.recorded)}, the VM has {_short(old.signature)}"
        )
    return None


@check("version.template", "the template's version decides whether the server talks to the VM")
def template(case: Case) -> Result:
    """A live patch does not change what template the VM says it was made from."""
    before, after = case.before.scripts.template, case.after.scripts.template
    if not before and not after:
        return Skip("the VM names no template")
    return Finding(f"it was {before!r} and is {after!r}") if before != after else None


def _short(signature: str) -> str:
    return f"{signature[:12]}…" if len(signature) > 12 else repr(signature)


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "it gave no reason")
