"""Processes: nobody is there who was not, and each runs the program that is on the disk."""

from __future__ import annotations

from collections.abc import Iterable

from harness.checks.case import Case
from harness.checks.registry import CannotLook, Result, check, found
from harness.observe import reviewed
from harness.observe.processes import Program


@check("processes.none-new", "a program that no service started answers to nobody, and nobody watches it")
def none_new(case: Case) -> Result:
    """No process runs outside services, or a program in one that it did not have, but those that may."""
    wrong = []
    for when, moment in case.moments():
        before = {_kind(program) for program in _known(case.before.processes)}
        wrong += [
            f"process {program.name} runs {_where(program)} as {program.owner}, it did not before ({when})"
            for program in _known(moment.processes)
            if _kind(program) not in before and not _is_new_service(case, program) and not _may(program)
        ]
    return found(wrong)


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


def _known(programs: tuple[Program, ...] | None) -> Iterable[Program]:
    if programs is None:
        raise CannotLook("the VM did not say which processes it has")
    return programs


def _kind(program: Program) -> tuple[str, str, str]:
    return program.file, program.owner, program.unit


def _where(program: Program) -> str:
    return program.unit if program.unit == "outside services" else f"in {program.unit}"


def _may(program: Program) -> bool:
    return reviewed.excuses("process", f"{program.unit} {program.file} {program.command}".rstrip())


def _is_new_service(case: Case, program: Program) -> bool:
    """True if its service did not run before: that is what services.not-started looks at."""
    service = case.before.services.by_name.get(program.unit)
    return program.unit.endswith(".service") and not (service and service.is_active)
