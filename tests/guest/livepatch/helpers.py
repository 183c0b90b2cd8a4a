"""The helper walk: every program that a run calls fails, is killed or hangs once; no answer lies about old and new."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from tests.guest.livepatch import bundles, walk
from tests.guest.livepatch.folder_vm import JOURNAL, FolderVm, ScriptRun

HERE = Path(__file__).resolve().parent
How = Literal["fail", "kill", "late-fail", "late-kill", "hang"]
HOWS: tuple[How, ...] = ("fail", "kill", "late-fail", "late-kill", "hang")
# The programs that the script calls; those of dpkg, and of signatures, have plays of their own.
PROGRAMS = [
    "bash",
    "base64",
    "gzip",
    "sha256sum",
    "sha512sum",
    "stat",
    "tar",
    "unzip",
    "mv",
    "cp",
    "rm",
    "mkdir",
    "chmod",
    "find",
    "flock",
    "setsid",
    "timeout",
    "install",
    "ln",
    "tail",
    "head",
    "readlink",
    "sync",
    "systemctl",
    "ss",
    "iptables",
    "iptables-save",
    "iptables-restore",
    "haproxy",
    "journalctl",
]
LIMITS = {"LIVEPATCH_LIMIT": "3", "LIVEPATCH_SERVICE_LIMIT": "2"}


@dataclass(frozen=True)
class Case:
    """One program that misbehaves: the number of its call in the run, and how."""

    type: str
    story: Literal["patch", "rollback"]
    number: int
    how: How


def build(folder: Path) -> Path:
    """Compile the program that stands in front of the others."""
    program = folder / "helper"
    subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-o", program, HERE / "helper.c"], check=True)
    return program


def install(lab: FolderVm, program: Path, names: Iterable[str] = PROGRAMS) -> None:
    """Put the program in front of others of a VM; the stand-ins stay behind it."""
    front, behind = lab.root / "usr/local/sbin", lab.root / "usr/local/lib/lab"
    behind.mkdir(parents=True)
    for standin in list(front.iterdir()):
        standin.rename(behind / standin.name)
    shutil.copy(program, behind.parent / "helper")
    for name in names:
        (front / name).symlink_to("/usr/local/lib/helper")


def of_this_machine() -> list[str]:
    """Return the name of every program that a run in the lab could call."""
    return sorted({path.name for folder in ("/usr/bin", "/usr/sbin") for path in Path(folder).iterdir()})


def plan(lab: FolderVm, number: int, how: str = "fail") -> None:
    """Say which call is the one; 0 only counts."""
    (lab.root / "run/lab/helper").write_text(f"{number} {how}\n")
    (lab.root / "run/lab/helper.log").unlink(missing_ok=True)


def calls(stage: walk.Stage, program: Path, type_: str, story: walk.Story) -> list[str]:
    """Return the programs that a run calls, in order."""
    return list(_calls(stage, program, type_, story))


@cache
def _calls(stage: walk.Stage, program: Path, type_: str, story: walk.Story) -> tuple[str, ...]:
    with stage.clone(type_) as lab:
        install(lab, program)
        plan(lab, 0)
        lab.patch(walk.BUNDLE[story]())
        return tuple((lab.root / "run/lab/helper.log").read_text().split())


def try_case(stage: walk.Stage, program: Path, case: Case) -> None:
    """Play a case to its end.

    Raises:
        walk.Mixed: the VM is mixed, the answer is a lie, or nothing leads out.
    """
    stage.prepare(case.type)
    with stage.clone(case.type) as lab:
        install(lab, program)
        plan(lab, case.number, case.how)
        run = lab.patch(walk.BUNDLE[case.story](), **LIMITS)
        (lab.root / "run/lab/helper").unlink()
        what = f"{case}: {run}"
        if run.status == 0 and (
            case.story == "rollback" or run.output != f"version:{bundles.new().signature} \n"
        ):
            raise walk.Mixed(f"{what}: that is no success; {walk.log_of(lab)}")
        if (lab.root / JOURNAL / "attempt").exists():
            _leads_out(lab, run, what)
        verdict = walk.judge(lab, stage, what, services=True, attended=True)
        if (run.status == 0) != (verdict == "new") and "not finished" not in run.output:
            raise walk.Mixed(f"{what}: the VM is {verdict}; {walk.log_of(lab)}")
        walk.converge(lab, stage, what, second=False)


def _leads_out(lab: FolderVm, run: ScriptRun, what: str) -> None:
    if run.status != 1 or not any(
        word in run.output for word in ("incomplete", "not finished", "did not end")
    ):
        raise walk.Mixed(f"{what}: a journal is open, and the answer does not say so; {walk.log_of(lab)}")
    done = lab.run("--recover")
    if done.status:
        raise walk.Mixed(f"{what}: the recovery ended with {done}; {walk.log_of(lab)}")
