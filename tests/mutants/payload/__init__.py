"""Mutants of the payload: one changed line of ``systemvm/`` each, in a copy of the tree, for the tests of its row."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
# What the tests of the payload need of the tree, and they reach none of it but below their own folder.
PARTS = ("bundle", "harness", "systemvm", "tests", "pyproject.toml")
KINDS = frozenset({"dropped", "widened", "reordered", "changed"})
LIMIT = 300  # seconds for the tests of one mutant


@dataclass(frozen=True)
class Mutant:
    """One changed line: what was done to it, the file below ``systemvm``, both texts, and which tests have to fail."""

    kind: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def changed(self, text: str) -> str:
        """Return the text of the file with its one line changed.

        Raises:
            ValueError: what is to be changed is not there exactly once, or spans lines.
        """
        if text.count(self.old) != 1 or "\n" in self.old + self.new:
            raise ValueError(f"{self.file}: {self.old!r} is there {text.count(self.old)} times")
        return text.replace(self.old, self.new)


def load() -> list[Mutant]:
    """Return every mutant."""
    rows = tomllib.loads((HERE / "mutants.toml").read_text(encoding="utf-8"))["mutant"]
    return [Mutant(**{**row, "tests": tuple(row["tests"])}) for row in rows]


class Copy:
    """A copy of the tree in which tests run; nothing of it is imported by this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in PARTS:
            source, target = ROOT / name, folder / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(source, target)

    def passes(self, tests: list[str], *options: str, limit: float = LIMIT) -> bool:
        """Return whether tests pass; one that does not end in time has failed.

        Raises:
            RuntimeError: no test ran, or pytest itself failed.
        """
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
        # A mutant may have the size and the second of the file that it took the place of.
        own = {"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                [*command, *(f"tests/{test}" for test in tests)],
                cwd=self.folder,
                env=os.environ | own,
                capture_output=True,
                text=True,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
        if done.returncode not in (0, 1):
            raise RuntimeError(
                f"{tests}: pytest ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}"
            )
        return done.returncode == 0

    def kills(self, mutant: Mutant) -> bool:
        """Return whether the tests of a mutant fail on it."""
        path = self.folder / "systemvm" / mutant.file
        text = path.read_text(encoding="utf-8")
        path.write_text(mutant.changed(text), encoding="utf-8")
        try:
            return not self.passes(list(mutant.tests), "-x")
        finally:
            path.write_text(text, encoding="utf-8")


def main(wanted: list[str]) -> int:
    """Run the mutants whose file or kind holds one of the words, or all; the status is 1 when one survives.

    The tests run first on the tree as it is: one that fails anyway would kill whatever it is given.
    """
    mutants = [
        row
        for row in load()
        if not wanted or any(word in (row.kind, row.file) or word in row.file for word in wanted)
    ]
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        tests = sorted({test for mutant in mutants for test in mutant.tests})
        if not copy.passes(tests, limit=3600):
            print(f"some of these {len(tests)} tests fail without any mutant: mend them first")
            return 1
        for number, mutant in enumerate(mutants, 1):
            killed = copy.kills(mutant)
            what = f"{mutant.kind} {mutant.file} {'killed' if killed else 'SURVIVED'}: {mutant.new}"
            print(f"{number}/{len(mutants)} {what}", flush=True)
            survivors += [] if killed else [mutant]
    print(f"{len(mutants)} mutants of the payload, {len(survivors)} survived")
    return 1 if survivors else 0
