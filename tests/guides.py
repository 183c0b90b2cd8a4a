"""The guides of ``docs/`` as tests follow them: commands as they are written, in a folder such as they speak of."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests import miniature

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RUNS = ROOT / "tests/data/runs"
GUIDES = ("guide-release", "guide-ci", "guide-failed-case")
# A run that passed and the latest one, which did not, by their names in a person's folder.
_RESULTS = {"yesterday": "main-job", "20260131-101010-abcd": "broken-bundle"}


def blocks(page: str) -> list[tuple[str, str]]:
    """Return the blocks of commands of a page: ``sh`` or ``console``, which needs a VM, and the commands."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(r"^```(sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def make_home(folder: Path) -> None:
    """Make a person's folder: CloudStack trees, two runs, the artifacts of the one that failed, and the program."""
    miniature.make(folder / "cloudstack", "4.22")
    miniature.make(folder / "cloudstack-4.21", "4.21")
    for name, run in _RESULTS.items():
        shutil.copytree(RUNS / run, folder / "results" / name)
    failed = list(_RESULTS)[-1]
    (folder / "results/latest").symlink_to(failed)
    shutil.make_archive(str(folder / "artifacts"), "zip", folder / "results", failed)
    program = folder / "bin/sysvm"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom harness.cli import main\nmain()\n")
    program.chmod(0o755)


def build_bundle(folder: Path, name: str) -> Path:
    """Build the reference bundle in a person's folder, for guides that begin with one."""
    command = [folder / "bin/sysvm", "bundle", "build", "-o", folder / name]
    subprocess.run(command, check=True, capture_output=True, env=environment(folder))
    return folder / name


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a person whose home a folder is."""
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "HOME": str(folder), "PATH": path, "PYTHONPATH": str(ROOT)}
