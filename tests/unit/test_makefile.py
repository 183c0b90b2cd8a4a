"""What the Makefile does on a machine that has nothing yet, and what it and the container file install."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    for name in ("Makefile", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return subprocess.run(
        ["make", "--no-print-directory", f"PYTHON={sys.executable}", *words],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_doctor_explains_what_is_missing_and_installs_nothing(tmp_path: Path) -> None:
    done = make(tmp_path, "doctor", "PACKAGES=bash no-such-package-1 no-such-package-2")
    assert done.returncode == 0, done.stderr
    assert "as root: no-such-package-1 no-such-package-2\n" in done.stdout
    assert "no virtual environment: 'make install' makes .venv" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"Makefile", "constraints.txt"}


def test_the_help_names_every_target(tmp_path: Path) -> None:
    said = make(tmp_path, "help").stdout
    for target in ("demo", "test", "doctor", "install", "clean"):
        assert f"  {target} " in said


def packages() -> set[str]:
    """Return the Debian packages that Makefile and container file install."""
    joined = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    listed = next(line for line in joined.splitlines() if line.startswith("PACKAGES := "))
    container = (ROOT / "ci/Containerfile").read_text()
    ours = re.search(r"--no-install-recommends ([a-z0-9 -]+?) *\\?\n", container)
    assert ours
    return {*listed.removeprefix("PACKAGES := ").split(), *ours[1].split()}


def test_every_package_that_is_installed_is_one_that_debian_has() -> None:
    names = sorted(packages())
    assert {"make", "tini", "qemu-system-x86", "python3-venv"} <= set(names)
    if shutil.which("apt-cache") is None:
        pytest.skip("no apt here")
    said = subprocess.run(
        ["apt-cache", "policy", *names],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LC_ALL": "C"},
    ).stdout
    found = set(re.findall(r"^(\S+):\n.*\n  Candidate: (?!\(none\))", said, re.MULTILINE))
    if "make" not in found:
        pytest.skip("apt has no lists here")
    assert sorted(set(names) - found) == []


def test_what_the_container_file_copies_holds_no_environment_of_this_machine() -> None:
    left = (ROOT / ".dockerignore").read_text().splitlines()
    assert {".venv", "results", "dist"} <= set(left)
