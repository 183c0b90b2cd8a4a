"""The crash walk: stop the script at every crash point, recover, and judge the VM: old, new, or mixed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from tests.guest.livepatch import bundles
from tests.guest.livepatch.folder_vm import JOURNAL, FolderVm, ScriptRun
from tests.guest.livepatch.states import State, differences

# What nothing may be left of, and the archives that a boot would install.
LEFT = (".cloud-livepatch", "var/.cloud-livepatch", f"{JOURNAL}/attempt")
ARCHIVES = ("var/cache/cloud/agent.zip", "var/cache/cloud/cloud-scripts.tgz")
TYPES = ("router", "secstorage", "consoleproxy", "ilbvm")
Story = Literal["patch", "rollback", "recovery"]
Cut = Literal["kill", "lost", "torn"]
STORIES: tuple[Story, ...] = ("patch", "rollback", "recovery")
CUTS: tuple[Cut, ...] = ("kill", "lost", "torn")


@dataclass(frozen=True)
class Case:
    """One stop: where, and how much of what was written survives it.

    Attributes:
        story: ``patch`` is a healthy patch, ``rollback`` one whose service does not start, ``recovery`` the run that
            follows after a stop at ``base``.
        point: number of the crash point, in the recovery when the story is one.
        cut: ``kill``, or the kind of power cut.
        base: story and crash point of the run that has to be recovered.
        split_var: whether /var is a file system of its own.
    """

    type: str
    story: Story
    point: int
    cut: Cut
    base: tuple[Story, int] | None = None
    split_var: bool = False


class Mixed(AssertionError):
    """The VM is neither old nor new, or lies about which."""


class Stage:
    """A VM of each type, ready to be cloned, with its old and its new state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.origin: dict[str, FolderVm] = {}
        self.old: dict[str, State] = {}
        self.new: dict[str, State] = {}

    def prepare(self, type_: str) -> None:
        """Build the VM of a type once, and learn its new state from a healthy patch."""
        if type_ in self.origin:
            return
        root = self.folder / type_
        root.mkdir()
        self.origin[type_] = FolderVm(root, type_).build()
        self.old[type_] = self.origin[type_].state()
        with self.clone(type_) as lab:
            run = lab.patch(bundles.new())
            assert run.status == 0, run
            self.new[type_] = lab.state(times=False)

    def clone(self, type_: str) -> Clone:
        """Give a copy of the VM that vanishes with its context."""
        self.prepare_only(type_)
        self.count += 1
        return Clone(self.origin[type_].clone(self.folder / f"{type_}-{self.count}"))

    def prepare_only(self, type_: str) -> None:
        """Build the VM without learning its new state."""
        if type_ not in self.origin:
            self.prepare(type_)


@dataclass
class Clone:
    """A VM that is removed after use."""

    lab: FolderVm

    def __enter__(self) -> FolderVm:
        return self.lab

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.lab.root)


BUNDLE: dict[Story, Callable[[], bundles.Bundle]] = {"patch": bundles.new, "rollback": bundles.broken}


@cache
def points(
    stage: Stage, type_: str, story: Story, base: tuple[Story, int] | None = None
) -> tuple[tuple[str, str], ...]:
    """Return the crash points of a run as phase and label; the run itself makes the list."""
    with stage.clone(type_) as lab:
        trace = "/run/lab/trace"
        if base:
            lab.patch(BUNDLE[base[0]](), LIVEPATCH_CRASH_AT=str(base[1]))
            lab.run("--recover", LIVEPATCH_TRACE=trace)
        else:
            lab.patch(BUNDLE[story](), LIVEPATCH_TRACE=trace)
        file = lab.root / trace.lstrip("/")
        rows = [line.split("\t") for line in file.read_text().splitlines()] if file.exists() else []
        return tuple((phase, label) for _, phase, label in rows)


def bases(stage: Stage, type_: str) -> list[tuple[Story, int]]:
    """Return stops from which a recovery starts: the middle of every phase of a patch, and of a rollback."""
    found: list[tuple[Story, int]] = []
    for story in ("patch", "rollback"):
        phases = [phase for phase, _ in points(stage, type_, story)]
        for phase in dict.fromkeys(phases):
            numbers = [i for i, name in enumerate(phases, 1) if name == phase]
            if story == "patch" or phase == "rollback":
                found.append((story, numbers[len(numbers) // 2]))
    return found


def cases(stage: Stage, type_: str, story: Story, cut: Cut) -> Iterator[Case]:
    """Return every case of a type, story and cut."""
    if story != "recovery":
        for number in range(1, len(points(stage, type_, story)) + 1):
            yield Case(type_, story, number, cut)
        return
    for base in bases(stage, type_):
        for number in range(1, len(points(stage, type_, story, base)) + 1):
            yield Case(type_, story, number, cut, base)


def judge(lab: FolderVm, stage: Stage, what: str, *, services: bool, attended: bool = False) -> str:
    """Say whether a VM is ``old`` or ``new``, and whether it says so itself.

    Args:
        lab: the VM.
        stage: knows its old and its new state.
        what: names the case.
        services: whether they have to be as before, with the unit files that stand there.
        attended: whether the caller's side lived all the time: it leaves no archive to a boot.

    Raises:
        Mixed: it is neither, or it lies, or something is left over.
    """
    if not (old := differences(stage.old[lab.type], lab.state())):
        verdict = "old"
    elif not (new := differences(stage.new[lab.type], lab.state(times=False))):
        verdict = "new"
    else:
        raise Mixed(f"{what}: differs from old in {old[:4]}, from new in {new[:4]}; {log_of(lab)}")
    state = lab.status()["state"]
    if state not in {"old": ("rolled-back", "none", "failed"), "new": ("committed",)}[verdict]:
        raise Mixed(f"{what}: the VM is {verdict}, but --status says {state}; {log_of(lab)}")
    left = [path for path in _not_to_be_left(lab, verdict, attended) if (lab.root / path).exists()]
    if left:
        raise Mixed(f"{what}: {left} remain; {log_of(lab)}")
    if services and lab.active() != stage.origin[lab.type].active():
        raise Mixed(f"{what}: services are {lab.active()}; {log_of(lab)}")
    if services and (stale := lab.stale_units()):
        raise Mixed(f"{what}: {stale} are not the units of the disk; {log_of(lab)}")
    return verdict


def _not_to_be_left(lab: FolderVm, verdict: str, attended: bool) -> tuple[str, ...]:
    """Return what must be gone: the archives, too, once a run has put them aside and gone on."""
    log = lab.root / "var/log/livepatchsystemvm.log"
    # A line that begins with @ tells of the next step.
    began = (
        attended or "\n@" in (log.read_text() if log.exists() else "").rpartition("put the archives aside")[2]
    )
    # Beside what cannot be removed they may stay.
    done = verdict == "new" and not list(lab.root.glob(".cloud-livepatch.kept-*"))
    return (*LEFT, *(ARCHIVES if began else ()), *((f"{JOURNAL}/landed",) if done else ()))


def log_of(lab: FolderVm) -> str:
    """Return the end of the log of a VM, in one line."""
    log = lab.root / "var/log/livepatchsystemvm.log"
    return " | ".join(log.read_text().splitlines()[-8:]) if log.exists() else "no log"


def _stop(lab: FolderVm, story: Story, point: int) -> ScriptRun:
    run = lab.patch(BUNDLE[story](), LIVEPATCH_CRASH_AT=str(point))
    if run.status != 1 or "version:" in run.output:
        raise Mixed(f"stopped at point {point} of {story}, yet it ended with {run}")
    return run


def try_case(stage: Stage, case: Case, *, second: bool = True) -> str:
    """Play a case to its end; returns what the VM was after the recovery.

    Raises:
        Mixed: the VM was neither old nor new, or a healthy patch did not converge afterwards.
    """
    stage.prepare(case.type)
    with stage.clone(case.type) as lab:
        lab.split_var = case.split_var
        if case.cut != "kill":
            lab.power_on()
        if case.base:
            _stop(lab, *case.base)
            if case.cut == "kill":
                lab.run("--recover", LIVEPATCH_CRASH_AT=str(case.point))
            else:
                lab.run("--recover", "--boot", LIVEPATCH_CRASH_AT=str(case.point))
        else:
            _stop(lab, case.story, case.point)
        if case.cut == "kill":
            run = lab.run("--recover")
            if run.status:
                raise Mixed(f"{case}: recovery ended with {run}; {log_of(lab)}")
        else:
            lab.power_cut(case.cut)
            if _needs_unit(lab) and not lab.unit_is_armed():
                raise Mixed(f"{case}: the next boot would not start the recovery")
            run = lab.recover_at_boot()
            if run.status:
                raise Mixed(f"{case}: recovery at boot ended with {run}; {log_of(lab)}")
        verdict = judge(lab, stage, str(case), services=True)
        converge(lab, stage, str(case), second=second)
        return verdict


def _needs_unit(lab: FolderVm) -> bool:
    phase = lab.root / "var/lib/cloud-livepatch/attempt/phase"
    # The second line is its seal.
    return phase.exists() and phase.read_text().partition("\n")[0] in ("restart", "commit")


def converge(lab: FolderVm, stage: Stage, what: str, *, second: bool) -> None:
    """Patch a VM with the healthy bundle, once or twice: it is new, and stays as it is.

    Raises:
        Mixed: it is not.
    """
    for _ in range(2 if second else 1):
        run = lab.patch(bundles.new())
        if run.status != 0 or run.output != f"version:{bundles.new().signature} \n":
            raise Mixed(f"{what}: a healthy patch afterwards ended with {run}; {log_of(lab)}")
        if judge(lab, stage, f"{what}, patched again", services=True) != "new":
            raise Mixed(f"{what}: a healthy patch afterwards left the old state")
