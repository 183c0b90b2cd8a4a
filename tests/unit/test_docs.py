"""The documentation is true: guides are run as they are written, and lists are those of the program."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import miniature

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RUNS = ROOT / "tests/data/runs"
GUIDES = ("guide-release", "guide-ci", "guide-failed-case")


def commands(page: str) -> str:
    """Return what a guide tells a person to type; blocks of ``console`` need a VM."""
    return "\n".join(
        re.findall(r"^```sh\n(.*?)^```", (DOCS / f"{page}.md").read_text(), re.MULTILINE | re.DOTALL)
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A person's folder: a CloudStack tree, a run of yesterday that passed, and the latest one, which did not."""
    miniature.make(tmp_path / "cloudstack", "4.22")
    miniature.make(tmp_path / "cloudstack-4.21", "4.21")
    for name, run in (("yesterday", "main-job"), ("20260131-101010-abcd", "broken-bundle")):
        shutil.copytree(RUNS / run, tmp_path / "results" / name)
    (tmp_path / "results/latest").symlink_to("20260131-101010-abcd")
    program = tmp_path / "bin/sysvm"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom harness.cli import main\nmain()\n")
    program.chmod(0o755)
    shutil.copytree(_bundle(tmp_path, program), tmp_path / "out")
    return tmp_path


def _bundle(home: Path, program: Path) -> Path:
    """Return a bundle, for guides that begin with one."""
    made = home / "made"
    subprocess.run(
        [program, "bundle", "build", "-o", made], check=True, capture_output=True, env=_environment(home)
    )
    return made


def _environment(home: Path) -> dict[str, str]:
    path = f"{home / 'bin'}:{os.environ['PATH']}"
    return {
        **os.environ,
        "HOME": str(home),
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "SYSVM_CACHE": str(home / "cache"),
    }


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_can_be_followed_command_by_command(guide: str, home: Path) -> None:
    if guide == "guide-release":
        shutil.rmtree(home / "out")
    script = commands(guide)
    assert script.count("sysvm ") >= 3
    done = subprocess.run(
        ["bash", "-eux", "-c", script],
        cwd=home, env=_environment(home), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if guide == "guide-failed-case":
        assert "unknown keyword 'this-is-no-keyword'" in done.stdout
        assert "against yesterday: 1 broken" in done.stdout


def test_every_variable_of_the_program_is_on_its_page() -> None:
    told = set(re.findall(r"`(SYSVM_\w+)`", (DOCS / "environment.md").read_text()))
    there = {
        name
        for room in ("bundle", "harness")
        for file in (ROOT / room).rglob("*.py")
        for name in re.findall(r"\"(SYSVM_[A-Z_]+)\"", file.read_text(encoding="utf-8"))
    }
    assert told == there


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = []
    for page in [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_the_table_of_exit_statuses_is_that_of_the_program() -> None:
    from bundle.errors import Exit

    table = (DOCS / "commands.md").read_text().split("## Exit status")[1].split("\n\n")[1]
    assert {int(number) for number in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == {
        int(e) for e in Exit
    }
