"""Small changes to the world of a patch: each returns a function that leaves behind what a broken patch would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from tests.unit.harness.simulated_patch import File, Program, SimulatedPatch, Unit

Mutation: TypeAlias = Callable[[SimulatedPatch], None]


def change_file(path: str, **changes: object) -> Mutation:
    def act(made: SimulatedPatch) -> None:
        for moment in (made.patched, made.after):
            moment.files[path] = replace(moment.files.get(path, File()), **changes)

    return act


def drop_file(*paths: str) -> Mutation:
    def act(made: SimulatedPatch) -> None:
        for moment in (made.patched, made.after):
            for path in paths:
                del moment.files[path]

    return act


def change_unit(name: str, **changes: object) -> Mutation:
    def act(made: SimulatedPatch) -> None:
        for moment in (made.patched, made.after):
            moment.units[name] = replace(moment.units.get(name, Unit(name, 900, 5000)), **changes)

    return act


def change_text(name: str, text: str | None, *moments: str) -> Mutation:
    def act(made: SimulatedPatch) -> None:
        for moment in moments or ("patched", "after"):
            getattr(made, moment).texts[name] = text

    return act


def listen(*rows: tuple[str, str, str, int]) -> Mutation:
    def act(made: SimulatedPatch) -> None:
        for moment in (made.patched, made.after):
            moment.listeners.extend(rows)

    return act


def stop_listening(program: str) -> Mutation:
    def act(made: SimulatedPatch) -> None:
        for moment in (made.patched, made.after):
            moment.listeners[:] = [row for row in moment.listeners if row[2] != program]

    return act


def set_kernel(**values: str) -> Mutation:
    """Set what stands under ``/proc/sys``; two underscores in a name stand for a slash."""

    def act(made: SimulatedPatch) -> None:
        for moment in (made.patched, made.after):
            moment.sysctls |= {name.replace("__", "/"): value for name, value in values.items()}

    return act


def mount(line: str) -> Mutation:
    def act(made: SimulatedPatch) -> None:
        for moment in (made.patched, made.after):
            moment.mounts.append(line)

    return act


def change_disk(**changes: object) -> Mutation:
    def act(made: SimulatedPatch) -> None:
        for moment in (made.patched, made.after):
            for name, value in changes.items():
                setattr(moment, name, value)

    return act


def run_program(*rows: Program) -> Mutation:
    def act(made: SimulatedPatch) -> None:
        for moment in (made.patched, made.after):
            moment.programs.extend(rows)

    return act


def log_line(**row: object) -> Mutation:
    line = {"PRIORITY": "4", "SYSLOG_IDENTIFIER": "kernel", "MESSAGE": "x", **row}
    return lambda made: made.after.journal.append(line)


def change_answer(**changes: object) -> Mutation:
    return lambda made: made.answer(**changes)


def set_field(**changes: object) -> Mutation:
    return lambda made: made.fields.update(changes)
