"""Processes: nobody is there who was not, nobody is gone, and each runs the program that is on the disk."""

from __future__ import annotations

from collections.abc import Iterable

from harness.checks.case import Case
from harness.checks.registry import CannotLook, Result, check, found
from harness.observe import reviewed
from harness.observe.observation import Observation
from harness.observe.processes import Program

_CRON = "cron.service"
# What the kernel calls a process that a signal, or a debugger, has stopped.
_STOPPED = frozenset({"T", "t"})


@check("processes.none-new", "a program that no service started answers to nobody, and nobody watches it")
def none_new(case: Case) -> Result:
    """No process runs outside services, or a program in one that it did not have, but those that may."""
    wrong = []
    for when, moment in case.moments():
        before = {_kind(program) for program in _known(case.before.processes)}
        wrong += [
            f"process {program.name} runs {_where(program)} as {program.owner}, it did not before ({when})"
            for program in _known(moment.processes)
            if _kind(program) not in before
            and not _is_new_service(case, program)
            and not _is_shipped(case, program)
            and not _may(program, moment)
        ]
    return found(wrong)


@check("processes.none-gone", "a service that runs without a part of its own says of itself that all is well")
def none_gone(case: Case) -> Result:
    """No process that ran outside services, or beside others of a service that is up, is gone."""
    wrong = []
    for when, moment in case.moments():
        now = {_kind(program) for program in _known(moment.processes)}
        gone = {
            _kind(program): program for program in _known(case.before.processes) if _kind(program) not in now
        }
        wrong += [
            f"process {program.name} no longer runs {_where(program)} as {program.owner} ({when})"
            for program in gone.values()
            if not _is_down(moment, program)
            and not _was_shipped(case, program)
            and not _may(program, case.before)
        ]
    return found(wrong)


@check(
    "processes.running", "a service whose processes stand still serves nobody, and systemd calls it active"
)
def running(case: Case) -> Result:
    """No process stands still that did not before."""
    before = {(program.pid, program.start) for program in _stopped(case.before)}
    wrong = [
        f"process {program.name} {_where(program)} was stopped and stands still ({when})"
        for when, moment in case.moments()
        for program in _stopped(moment)
        if (program.pid, program.start) not in before
    ]
    return found(wrong)


def _stopped(moment: Observation) -> list[Program]:
    return [program for program in _known(moment.processes) if program.state in _STOPPED]


@check(
    "processes.on-disk",
    "a process that runs what is no longer on the disk was not patched, or not rolled back",
)
def on_disk(case: Case) -> Result:
    """Every process runs the files that are on the disk, if it did before."""
    wrong = []
    for when, moment in case.moments():
        before = {
            (program.pid, program.start, file)
            for program in _known(case.before.processes)
            for file in program.gone
        }
        wrong += [
            f"{program.word} still runs {file} as it was before the patch ({when})"
            for program in _known(moment.processes)
            for file in program.gone
            if (program.pid, program.start, file) not in before
        ]
    return found(list(dict.fromkeys(wrong)))


def _is_below_cron(program: Program, moment: Observation) -> bool:
    """True if cron waits for it: a program that moves itself there, or stays when its job has ended, is no job."""
    known = {other.pid: other for other in moment.processes or ()}
    seen: set[int] = set()
    while program.pid not in seen:
        if program.file.rsplit("/", 1)[-1] in {"cron", "crond"}:
            return True
        seen.add(program.pid)
        program = known.get(program.parent, program)
    return False


def _known(programs: tuple[Program, ...] | None) -> Iterable[Program]:
    if programs is None:
        raise CannotLook("the VM did not say which processes it has")
    return programs


def _kind(program: Program) -> tuple[str, str, str, str]:
    return program.file, program.script, program.owner, program.unit


def _where(program: Program) -> str:
    return program.unit if program.unit == "outside services" else f"in {program.unit}"


def _may(program: Program, moment: Observation) -> bool:
    if program.unit == _CRON and not _is_below_cron(program, moment):
        return False
    return reviewed.excuses("process", f"{program.unit} {program.file} {program.command}".rstrip())


def _is_new_service(case: Case, program: Program) -> bool:
    """True if its service did not run before: that is what services.not-started looks at."""
    service = case.before.services.by_name.get(program.unit)
    return program.unit.endswith(".service") and not (service and service.is_active)


def _is_down(moment: Observation, program: Program) -> bool:
    """True if its service is not up: that is what other checks look at."""
    service = moment.services.by_name.get(program.unit)
    return program.unit.endswith(".service") and not (service and service.is_active)


def _is_shipped(case: Case, program: Program) -> bool:
    """True if a service runs a script that the release has brought."""
    return case.expected == "patched" and program.unit.endswith(".service") and program.script in case.new


def _was_shipped(case: Case, program: Program) -> bool:
    """True if it runs a script of the old release that the new one does not have."""
    return case.expected == "patched" and program.script in case.old and program.script not in case.new
