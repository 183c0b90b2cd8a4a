"""Planning: which scenarios a run would make, collected and not run."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bundle.errors import UsageError
from harness.plugin.choosing import REFUSAL, cell_of, scenario_id, why_not
from harness.plugin.mark import Scenario, scenario_of
from harness.plugin.options import for_pytest

SHIPPED = Path(__file__).parent.parent / "scenarios"


@dataclass(frozen=True)
class Planned:
    """A scenario that a run would make.

    Attributes:
        id: as in the reports.
        vm_type: of its cell.
        from_release: of its cell.
        declared: what its mark says.
        why_not: why it will be skipped, or an empty string.
        file: where it is, relative to the folder of the scenarios.
    """

    id: str
    vm_type: str
    from_release: str
    declared: Scenario
    why_not: str
    file: str


@dataclass
class _Collector:
    """A plugin that takes what was collected."""

    found: list[Planned] = field(default_factory=list)
    refusal: str = ""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Take every scenario."""
        for item in session.items:
            declared, identifier = scenario_of(item), scenario_id(item)
            if declared is not None and identifier is not None:
                cell = cell_of(item)
                where = item.path.relative_to(session.config.rootpath)
                self.found.append(
                    Planned(identifier, cell.vm_type, cell.from_release, declared, why_not(item), str(where))
                )

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Take why nothing was collected."""
        self.refusal = config.stash.get(REFUSAL, "")


def command_line(folder: Path, arguments: Sequence[str]) -> list[str]:
    """Return what pytest is called with to run the scenarios of a folder.

    Args:
        folder: where the scenarios are.
        arguments: words of ``sysvm run``, and pytest's own.
    """
    settings = SHIPPED / "pytest.ini"
    return [
        str(folder),
        "-c",
        str(settings),
        "--rootdir",
        str(folder),
        "-p",
        "harness.plugin",
        *map(for_pytest, arguments),
    ]


def plan(arguments: Sequence[str], folder: Path = SHIPPED) -> list[Planned]:
    """Return the scenarios that a run would make, in its order.

    Args:
        arguments: options of pytest and of the plugin.
        folder: where the scenarios are.

    Raises:
        UsageError: an argument cannot be meant, or nothing is chosen.
    """
    collector, said = _Collector(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = pytest.main(
            [*command_line(folder, arguments), "--collect-only", "-n", "0"], plugins=[collector]
        )
    if collector.refusal:
        raise UsageError(collector.refusal)
    if status != pytest.ExitCode.OK or not collector.found:
        last = said.getvalue().strip().splitlines()[-1:] or [f"pytest ended with status {status}"]
        raise UsageError(f"no scenario can be run: {last[0]}")
    return collector.found
