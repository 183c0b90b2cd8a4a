"""The documentation is true: guides are run as they are written, and lists are those of the program."""

from __future__ import annotations

import pkgutil
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from harness.cli import sysvm
from tests import guides
from tests.guides import DOCS, GUIDES, ROOT


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_can_be_followed_command_by_command(guide: str, tmp_path: Path) -> None:
    guides.make_home(tmp_path)
    if guide != "guide-release":
        guides.build_bundle(tmp_path, "out")
    # Blocks of ``console`` need VMs: ``nox -s guides`` runs those, too.
    script = "\n".join(text for kind, text in guides.blocks(guide) if kind == "sh")
    assert script.count("sysvm ") >= 3
    done = subprocess.run(
        ["bash", "-eux", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
        env={**guides.environment(tmp_path), "SYSVM_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if guide == "guide-failed-case":
        assert "unknown keyword 'this-is-no-keyword'" in done.stdout
        assert "against yesterday: 1 broken" in done.stdout


def test_every_command_of_a_guide_that_needs_a_vm_is_one_that_the_program_understands() -> None:
    lines = [
        line for guide in (*GUIDES, "cluster") for kind, text in guides.blocks(guide) if kind == "console"
        for line in text.splitlines()
    ]  # fmt: skip
    assert len(lines) >= 10
    for line in lines:
        words = shlex.split(line.removesuffix("|| true"))
        assert words.pop(0) == "sysvm", line
        command: click.Command = sysvm
        context = click.Context(sysvm)
        while isinstance(command, click.Group):
            command, words = command.get_command(context, words[0]) or pytest.fail(line), words[1:]
        command.make_context("sysvm", words)


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


def test_the_readme_shows_a_table_as_the_program_prints_it(tmp_path: Path) -> None:
    shutil.copytree(guides.RUNS / "main-job", tmp_path / "main-job")
    done = CliRunner(env={"COLUMNS": "170"}).invoke(sysvm, ["report", str(tmp_path / "main-job")])
    shown = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith(("┃", "│"))]
    assert len(shown) == 3
    assert [line for line in done.stdout.splitlines() if line.startswith(("┃", "│"))] == shown


def test_every_file_and_module_that_a_page_names_is_there() -> None:
    # Of a checkout of CloudStack, or standing for any room; the changelog speaks of former places.
    others = {"systemvm/patch-sysvms.sh", "tests/unit/harness/ROOM", "tests/unit/bundle/ROOM"}
    pages = [*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    named = {
        name for page in pages
        for name in re.findall(r"`((?:bundle|harness|tests|systemvm|docs|ci)/[\w./-]*\w)/?`", page.read_text())
    }  # fmt: skip
    assert len(named) > 40
    assert [name for name in sorted(named - others) if not (ROOT / name).exists()] == []
    parts = (DOCS / "engine.md").read_text().split("## Parts")[1].split("\n## ")[0]
    modules = {path.stem for path in (ROOT / "harness").rglob("*.py")} | {
        path.parent.name for path in (ROOT / "harness").rglob("__init__.py")
    }
    listed = {
        name
        for cell in re.findall(r"^\| (`[^|]+) \|", parts, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", cell)
    }
    assert len(listed) > 20
    assert listed - modules == set()


def is_there(dotted: str) -> bool:
    try:
        pkgutil.resolve_name(dotted)
    except (ImportError, AttributeError):
        return False
    return True


def test_every_python_name_that_a_page_tells_is_there() -> None:
    pages = [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    told = {
        (page.name, name) for page in pages
        for name in re.findall(r"`((?:bundle|harness)(?:\.[A-Za-z_]\w*)+)", page.read_text()) if name != "bundle.md"
    }  # fmt: skip
    assert len(told) > 5
    assert sorted(where for where in told if not is_there(where[1])) == []
    assert not is_there("harness.observe.observe")


def test_every_page_that_a_file_for_ci_names_is_there() -> None:
    named = {
        name for file in (ROOT / "ci").iterdir() for name in re.findall(r"docs/[\w-]+\.md", file.read_text())
    }
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_table_of_exit_statuses_is_that_of_the_program() -> None:
    from bundle.errors import Exit

    table = (DOCS / "commands.md").read_text().split("## Exit status")[1].split("\n\n")[1]
    assert {int(number) for number in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == {
        int(e) for e in Exit
    }
