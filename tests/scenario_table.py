"""The table of scenarios in docs/judging.md, made from the code: ``python -m tests.scenario_table`` writes it.

``python -m tests.scenario_table RUN`` takes over how long the scenarios of a run took.
"""

from __future__ import annotations

import inspect
import sys
import tomllib
from collections import defaultdict
from functools import cache
from pathlib import Path

from harness.lab.faults import outsides
from harness.plugin.mark import Scenario
from harness.plugin.planning import Planned, plan
from harness.record.results import ResultsFolder
from harness.report import load
from tests.e2e.in_ci import IN_CI
from tests.guest.livepatch import plays_content, plays_failures, plays_packages, plays_refusals
from tests.guest.livepatch.vm_factory import SCENARIOS
from tests.mutants.scenarios.plugin import load as vm_mutants

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "judging.md"
SECONDS = ROOT / "tests" / "data" / "scenario-seconds.toml"
BEGIN, END = "<!-- scenarios: python -m tests.scenario_table -->\n", "<!-- end of scenarios -->\n"
FAULTS_BEGIN, FAULTS_END = "<!-- faults: python -m tests.scenario_table -->\n", "<!-- end of faults -->\n"
ROWS = [f"S{number:02}" for number in range(1, 65)]
# Rows that no VM plays by a scenario of their own, and why.
ELSEWHERE = {
    "S21": "every scenario in the cells of `--from 4.15..4.20`",
}
_PLAYED = (plays_content, plays_failures, plays_packages, plays_refusals)


@cache
def planned() -> list[Planned]:
    """Return every shipped scenario, once for each value of its parameters, as a run on a router plans it."""
    return plan(["--scenario=all"])


def scenarios() -> dict[str, Scenario]:
    """Return every shipped scenario by its name, in the order of the table."""
    found = {row.declared.name: row.declared for row in planned()}
    return dict(sorted(found.items(), key=lambda item: (item[1].row or "S00", item[0])))


def seconds() -> dict[str, float]:
    """Return how long each scenario took when it was last measured, all its cases together."""
    return tomllib.loads(SECONDS.read_text()).get("seconds", {}) if SECONDS.exists() else {}


def render() -> str:
    """Return the table."""
    shipped, took = scenarios(), seconds()
    by_row: dict[str, list[Scenario]] = defaultdict(list)
    for scenario in shipped.values():
        by_row[scenario.row].append(scenario)
    plays = defaultdict(int)
    for entry in SCENARIOS:
        plays[entry.row] += 1
    mutants = defaultdict(int)
    for mutant in vm_mutants():
        mutants[next(name for name in shipped if mutant.scenario.startswith(name))] += 1
    lines = [
        "| row | on VMs | what happens | for | lab | mutants | seconds | CI |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in ["", *ROWS]:
        lab = str(plays[row]) if plays[row] else "–"
        if row and not by_row[row]:
            lines.append(f"| {row} | – | {ELSEWHERE[row]} | – | {lab} | – | – | – |")
        for scenario in by_row[row]:
            name, count = scenario.name, mutants[scenario.name]
            measured = f"{took[name]:.0f}" if name in took else "–"
            types = ", ".join(scenario.types) if scenario.types else "all"
            ci = "yes" if name in IN_CI else "–"
            lines.append(
                f"| {row or '–'} | {name} | {scenario.title} | {types} | {lab} | {count or '–'} | {measured} | {ci} |"
            )
    return "\n".join(lines) + "\n"


def render_faults() -> str:
    """Return the table of faults from outside, with what each takes."""
    lines = ["| fault | what | options |", "|---|---|---|"]
    for row in outsides():
        options = [f"`{name}`" for name in list(inspect.signature(row.begin).parameters)[1:]]
        lines.append(f"| `{row.name}` | {row.what} | {', '.join(options) or '–'} |")
    return "\n".join(lines) + "\n"


def written(page: str) -> str:
    """Return the page with the tables of now in it."""
    for begin, end, made in ((BEGIN, END, render()), (FAULTS_BEGIN, FAULTS_END, render_faults())):
        head, rest = page.split(begin)
        page = head + begin + made + end + rest.split(end)[1]
    return page


def measure(run: Path) -> None:
    """Take over the times of a run: the cases of one scenario together."""
    names = sorted(scenarios(), key=len, reverse=True)
    took = dict(seconds())
    fresh: dict[str, float] = defaultdict(float)
    for row in load(ResultsFolder(run)).scenarios:
        if row.verdict == "passed":
            fresh[next(name for name in names if f"-{name}" in row.id)] += row.seconds
    took.update({name: round(value, 1) for name, value in fresh.items()})
    body = "".join(f'"{name}" = {value}\n' for name, value in sorted(took.items()))
    head = "# Seconds that the cases of a scenario took together: emulated, one to three at a time on two cores.\n"
    SECONDS.write_text(f"{head}[seconds]\n{body}")


if __name__ == "__main__":
    if sys.argv[1:]:
        measure(Path(sys.argv[1]))
    PAGE.write_text(written(PAGE.read_text()))
