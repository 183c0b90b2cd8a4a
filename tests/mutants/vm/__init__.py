"""Mutants on real VMs: damages beside a patch, and payloads of which a later use is broken; one row of a table each."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bundle.derive import EditableArchive, derive
from harness.lab.trial import Trial

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Damage:
    """A damage: what does it, the check that must find it, and words that it must tell."""

    name: str
    check: str
    words: str
    shell: str = ""
    along: str = ""


@dataclass(frozen=True)
class BrokenUse:
    """A payload of which one later use is broken; the table says what each field is."""

    name: str
    file: str
    old: str
    new: str
    use: str
    words: str
    form: Literal["short", "whole", "booted", "reboot"]
    group: int

    @property
    def check(self) -> str:
        """The check that must say so."""
        return self.use if self.form == "reboot" else f"later.{self.use}"

    def broken(self, text: str) -> str:
        """Return the text of the file, broken.

        Raises:
            ValueError: what is to be replaced is not there exactly once.
        """
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.file} has {text.count(self.old)} times {self.old!r}")
        return text.replace(self.old, self.new)

    def edit(self, contents: dict[str, EditableArchive]) -> None:
        """Break the payload of a bundle."""
        scripts = contents["cloud-scripts.tgz"]
        scripts.write(self.file, self.broken(scripts.read(self.file).decode()).encode())


def damages() -> list[Damage]:
    """Return every damage."""
    rows = tomllib.loads((HERE / "damages.toml").read_text())["damage"]
    return [Damage(along=row.pop("with", ""), **row) for row in rows]


def packs() -> list[list[Damage]]:
    """Return the damages in as few packs as there can be when no two of a pack are found by one check."""
    checks = Counter(row.check for row in damages())
    made: list[list[Damage]] = [[] for _ in range(max(checks.values()))]
    for row in sorted(damages(), key=lambda row: -checks[row.check]):
        free = [pack for pack in made if row.check not in {other.check for other in pack}]
        min(free, key=len).append(row)
    return made


def broken_uses() -> list[BrokenUse]:
    """Return every broken later use."""
    return [BrokenUse(**row) for row in tomllib.loads((HERE / "later.toml").read_text())["later"]]


def break_uses(bundle: Path, target: Path, rows: Iterable[BrokenUse]) -> Path:
    """Return a bundle made of a healthy one, in which later uses are broken; rows of the same text change it once."""
    edits = {(row.file, row.old, row.new): row for row in rows}

    def edit(contents: dict[str, EditableArchive]) -> None:
        for row in edits.values():
            row.edit(contents)

    derive(bundle, target, edit)
    return first(target, "export LIVEPATCH_SOAK=2")


def told_later(live_patch: Trial, rows: Iterable[BrokenUse]) -> dict[str, str]:
    """Return what goes wrong with later uses of a patched VM, by check; they take as long as the rows need."""
    forms = {row.form for row in rows}
    if "booted" in forms:
        live_patch.reboot()
    if forms != {"reboot"}:
        live_patch.aftermath(whole="whole" in forms)
    if "reboot" in forms:
        live_patch.reboot()
    told = dict(failure.split(": ", 1) for failure in live_patch.failures)
    live_patch.failures.clear()
    return told


def first(bundle: Path, line: str) -> Path:
    """Return the same bundle, whose patch script begins with a line, such as one that makes its watch a short one."""
    script = bundle / "patch-sysvms.sh"
    head, _, rest = script.read_text().partition("\n")
    script.write_text(f"{head}\n{line}\n{rest}")
    return bundle
