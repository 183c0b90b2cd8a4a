"""The commands of the Makefile, on a machine that has nothing yet."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

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
