"""Runs the mutants of a set: ``python -m tests.mutants script [row or tests...]``; exit 1 when one survives.

Each mutant is one changed line of a template of the patch script. The lab renders its bundles from the changed
templates and runs the tests that the mutant's row names; a mutant is killed when they fail.

The set ``scenarios`` runs scenarios on virtual machines instead (``tests/mutants/scenarios``); so does ``vm``: damages
beside a patch, and payloads of which a later use is broken (``vm/*.toml``), each alone; in ``packed``
those of them that cannot hide each other share a VM. The set ``later`` has the second table of those in namespaces,
which is faster and leaves out the boots. The set ``payload`` has one-line mutants of what runs inside a system VM
(``payload/mutants.toml``).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TEMPLATES = ROOT / "bundle" / "templates" / "patch-sysvms"
TESTS = {
    "vm": "tests/mutants/vm/test_alone.py",
    "packed": "tests/mutants/vm/test_packed.py",
    "later": "tests/guest/rules/test_later_uses.py",
}
LIMIT = 300  # seconds for the tests of one mutant


@dataclass(frozen=True)
class Mutant:
    """One changed line: the row that it belongs to, the template, both texts, and which tests have to fail."""

    row: str
    file: str
    old: str
    new: str
    tests: str


def load(name: str) -> list[Mutant]:
    """Return the mutants of a set."""
    with (HERE / name / "mutants.toml").open("rb") as file:
        return [Mutant(**row) for row in tomllib.load(file)["mutant"]]


def apply(mutant: Mutant, folder: Path) -> None:
    """Change one line of the templates in a folder.

    Raises:
        ValueError: the text is not there exactly once, or spans lines.
    """
    path = folder / f"{mutant.file}.sh.j2"
    text = path.read_text()
    if text.count(mutant.old) != 1 or "\n" in mutant.old:
        raise ValueError(f"{path.name}: {mutant.old!r} is there {text.count(mutant.old)} times")
    path.write_text(text.replace(mutant.old, mutant.new))


def is_killed(mutant: Mutant) -> bool:
    """Run the tests of a mutant; they have to fail.

    Raises:
        RuntimeError: no test ran, or pytest itself failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        templates = Path(folder) / "templates"
        shutil.copytree(TEMPLATES, templates)
        apply(mutant, templates)
        return not passes(mutant.tests, templates)


def passes(tests: str, templates: Path, limit: float = LIMIT) -> bool:
    """Return whether tests of the lab pass with templates; those that do not end in time have failed.

    Raises:
        RuntimeError: no test ran, or pytest itself failed.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/guest/livepatch"]
    with subprocess.Popen(
        [*command, "-k", tests],
        cwd=ROOT,
        env=os.environ | {"LIVEPATCH_TEMPLATES": str(templates)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            return False
        finally:
            _end(process)
    # 1 says that tests failed, any other status is no answer.
    if process.returncode not in (0, 1):
        raise RuntimeError(f"{tests}: pytest ended with {process.returncode}: {output[-500:]}")
    return process.returncode == 0


def _end(process: subprocess.Popen[str]) -> None:
    """End tests that go on, with all that they have started: what a mutant lets hang would hang for ever."""
    for name, seconds in ((signal.SIGINT, 60), (signal.SIGKILL, 60)):
        if process.poll() is None:
            os.killpg(process.pid, name)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=seconds)


def main(arguments: list[str]) -> int:
    """Run a set, or the rows of it that are named; those of scenarios, and of ``TESTS``, are not of the script."""
    arguments = arguments or [""]
    if arguments[0] == "scenarios":
        from tests.mutants.scenarios.run import main as on_vms

        return on_vms(arguments[1:])
    if arguments[0] == "payload":
        from tests.mutants.payload import main as of_payload

        return of_payload(arguments[1:])
    if arguments[0] in TESTS:
        os.environ["SYSVM_MUTANTS"] = "1"
        rows = ["-k", " or ".join(f"({row})" for row in arguments[1:])] if arguments[1:] else []
        return pytest.main(["-q", "-p", "no:cacheprovider", str(ROOT / TESTS[arguments[0]]), *rows])
    if arguments[0] != "script":
        print(
            f"no set {arguments[0]!r}: there is script, payload, scenarios, {', '.join(TESTS)}",
            file=sys.stderr,
        )
        return 2
    mutants = [
        row for row in load("script") if not arguments[1:] or {row.row, row.tests} & set(arguments[1:])
    ]
    if not mutants:
        print(f"no mutant has the row or tests {' '.join(arguments[1:])}", file=sys.stderr)
        return 2
    # A test that fails anyway would kill whatever it is given.
    if not passes(" or ".join(sorted({f"({row.tests})" for row in mutants})), TEMPLATES, limit=3600):
        print("some of the tests fail without any mutant: mend them first")
        return 1
    survivors = []
    for number, mutant in enumerate(mutants, 1):
        killed = is_killed(mutant)
        print(
            f"{number}/{len(mutants)} {mutant.row} {'killed' if killed else 'SURVIVED'}: {mutant.new}",
            flush=True,
        )
        survivors += [] if killed else [mutant]
    print(f"{len(mutants)} mutants, {len(survivors)} survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
