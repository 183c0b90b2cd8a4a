"""A pytest plugin that runs each scenario with its mutants: the bundle under test is rendered from changed templates.

The VM boots with the sound payload, so all mutants share one golden snapshot; only what it is patched with is changed.
Of a scenario that is not about the patch script, what it asks of the VM is broken there, before the scenario begins.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from bundle.errors import Exit
from bundle.seal import script
from harness.checks import Outcome
from harness.lab import bundles

HERE = Path(__file__).resolve().parent
# Where each worker tells what became of its mutants, one line of JSON each.
TOLD = "SYSVM_MUTANTS_TOLD"
# The scenario that patches with the bundle of the older release, too.
PATCHES_WITH_BOTH = "S27-older-release-refused"
# Seconds for the command that changes a VM.
_DEADLINE = 120.0


@dataclass(frozen=True)
class Mutant:
    """One change of the patch script, or of the VM.

    Attributes:
        scenario: the name that has to fail, with the values of its parameters behind dashes where one of them is meant.
        check: name of the check that has to say so.
        file: template, without ``.sh.j2``; empty when the VM is changed.
        old: part of the template, found exactly once.
        new: what stands there in the mutant.
        guest: shell command that changes the VM before the scenario begins; empty when the script is changed.
        type: the VM type that it is run on.
        moment: the number that a scenario with a random moment draws; 0 where it draws by the seed of the run.
    """

    scenario: str
    check: str
    file: str = ""
    old: str = ""
    new: str = ""
    guest: str = ""
    type: str = "router"
    moment: int = 0

    def __post_init__(self) -> None:
        """Refuse a row that changes nothing, or both.

        Raises:
            ValueError: it does.
        """
        if bool(self.guest) == bool(self.file):
            raise ValueError(f"{self.scenario}: a mutant changes a template or the VM")

    def __str__(self) -> str:
        """Return a word for ids and names of folders."""
        return f"{self.file or 'guest'}-{crc32((self.old + self.new + self.guest).encode()):08x}"


def load() -> list[Mutant]:
    """Return every row."""
    with (HERE / "mutants.toml").open("rb") as file:
        return [Mutant(**row) for row in tomllib.load(file)["mutant"]]


def apply(mutant: Mutant, folder: Path) -> None:
    """Change the templates in a folder.

    Raises:
        ValueError: the text is not there exactly once.
    """
    path = folder / f"{mutant.file}.sh.j2"
    text = path.read_text()
    if text.count(mutant.old) != 1:
        raise ValueError(f"{path.name}: {mutant.old!r} is there {text.count(mutant.old)} times")
    path.write_text(text.replace(mutant.old, mutant.new))


# Last, so that a row's name, with the values of its scenario's parameters, is a part of the id.
@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker("scenario")
    if mark is None:
        return
    rows = [row for row in load() if row.scenario.startswith(mark.args[0])]
    metafunc.fixturenames.append("mutant")
    # A number in the id: what the row says has blanks and would be no name.
    metafunc.parametrize("mutant", rows, ids=[f"mutant{number}" for number in range(len(rows))])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept = []
    for item in items:
        values = getattr(item, "callspec", None)
        row = values.params.get("mutant") if values else None
        own = (
            [str(v) for k, v in values.params.items() if k not in ("mutant", "system_vm_cell")]
            if values
            else []
        )
        mark = item.get_closest_marker("scenario")
        if (
            isinstance(row, Mutant)
            and mark
            and row.type == values.params["system_vm_cell"].vm_type
            and row.scenario in (mark.args[0], "-".join([mark.args[0], *own]))
        ):
            kept.append(item)
    items[:] = kept


@pytest.fixture
def lab(lab, mutant: Mutant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The lab of the run, with a mutant to patch with; whatever is derived from it is rendered from its templates."""
    if mutant.guest:
        return lab
    templates = tmp_path / "templates"
    shutil.copytree(script._TEMPLATES, templates)
    apply(mutant, templates)
    monkeypatch.setattr(script, "_TEMPLATES", templates)
    # What is built in a process of its own is of the mutant, too.
    changed = f"import pathlib, bundle.seal.script as script\nscript._TEMPLATES = pathlib.Path({str(templates)!r})\n"
    monkeypatch.setattr(bundles, "_BUILD", changed + bundles._BUILD)
    made = dataclasses.replace(
        lab, new_bundle=bundles.build_bundle(lab.new.name, tmp_path / "new"), folder=tmp_path
    )
    # For any other scenario the older bundle is what golden snapshots are made from.
    if mutant.scenario == PATCHES_WITH_BOTH:
        made = dataclasses.replace(made, old_bundle=bundles.build_bundle(lab.old.name, tmp_path / "old"))
    made.__dict__.update(spares=lab.spares, shared=lab.shared, between=lab.between)
    return made


@pytest.fixture
def system_vm(system_vm, mutant: Mutant):
    """The VM of the scenario, changed if the mutant is one of the VM."""
    if mutant.guest:
        system_vm.guest.run(mutant.guest, deadline=_DEADLINE)
    return system_vm


class _Drawn(random.Random):
    """Random numbers of a row that names its moment: every whole number is that one, and every chance comes true."""

    def __init__(self, moment: int) -> None:
        """Take the moment."""
        super().__init__()
        self._moment = moment

    def random(self) -> float:
        """Return the least number."""
        return 0.0

    def choice(self, seq: Any) -> Any:
        """Return the moment.

        Raises:
            ValueError: the scenario never draws it.
        """
        if self._moment not in seq:
            raise ValueError(f"the scenario never draws {self._moment}, but one of {seq}")
        return self._moment

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        """Return the moment.

        Raises:
            ValueError: the scenario never draws it.
        """
        return int(self.choice(range(start) if stop is None else range(start, stop, step)))


@pytest.fixture
def draw(draw: random.Random, mutant: Mutant) -> random.Random:
    """The random numbers of the scenario: the row's moment where it names one."""
    return _Drawn(mutant.moment) if mutant.moment else draw


@pytest.fixture
def live_patch(live_patch, mutant: Mutant):
    """The trial of the scenario, which ends when its mutant is killed."""
    return ending(live_patch, mutant.check)


def ending(trial, check: str):
    """Return a trial that ends its scenario when a check fails, for nothing else is to be seen of a mutant then."""
    note = trial.note

    def noted(outcomes: Sequence[Outcome]) -> None:
        note(outcomes)
        if any(line.startswith(f"{check}:") and line not in trial.by_host for line in trial.failures):
            pytest.fail("\n".join(trial.failures), pytrace=False)

    trial.note = noted
    return trial


def verdict(when: str, reason: BaseException | None, text: str, check: str) -> str:
    """Return what became of a mutant: killed, survived, otherwise (by another check), or error (it was not judged).

    Args:
        when: the part of the scenario that ended: setup, call or teardown.
        reason: what it ended with, or None.
        text: that in words.
        check: the check that has to say so.
    """
    if reason is None:
        return "survived"
    if when != "call" or getattr(reason, "exit_status", None) == Exit.INFRASTRUCTURE:
        return "error"
    return "killed" if f"{check}:" in text else "otherwise"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    mutant = item.callspec.params["mutant"]
    if report.when == "call" or not report.passed:
        text = str(report.longrepr or "")
        reason = call.excinfo.value if call.excinfo else None
        row = {
            **dataclasses.asdict(mutant),
            "verdict": verdict(report.when, reason, text, mutant.check),
            "seconds": report.duration,
        }
        if row["verdict"] != "killed":
            row["said"] = text[-600:]
        with Path(os.environ[TOLD]).open("a") as file:
            file.write(json.dumps(row) + "\n")
    return report
