"""Runs scenarios with their mutants on virtual machines and prints the table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from harness.plugin.planning import SHIPPED, command_line
from tests.mutants.scenarios.plugin import TOLD, Mutant, load

WORDS = {"survived": "SURVIVED", "otherwise": "FAILED OTHERWISE", "error": "NOT JUDGED"}
ROOT = Path(__file__).resolve().parents[3]


def main(wanted: list[str], workers: int = 2) -> int:
    """Run the mutants of the scenarios that are named, or all; the status is 1 when one survives or was not run."""
    rows = [row for row in load() if not wanted or any(row.scenario.startswith(word) for word in wanted)]
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.jsonl"
        told.touch()
        environment = os.environ | {TOLD: str(told), "PYTHONPATH": str(ROOT)}
        subprocess.run(command(rows, folder, "-n", str(workers)), cwd=ROOT, env=environment, check=False)
        seen = [json.loads(line) for line in told.read_text().splitlines()]
    return _tell(len(rows), seen)


def command(rows: list[Mutant], folder: str, *more: str) -> list[str]:
    """Return the command that runs rows, with its results in a folder."""
    names = ",".join(sorted({row.scenario for row in rows}))
    types = ",".join(sorted({row.type for row in rows}))
    told_to = [f"--scenario={names}", f"--type={types}", f"--results={folder}/results", "--seed=5"]
    arguments = [*told_to, *more, "-p", "tests.mutants.scenarios.plugin"]
    return [sys.executable, "-m", "pytest", *command_line(SHIPPED, arguments)]


def _tell(count: int, seen: list[dict[str, object]]) -> int:
    by_scenario: dict[str, list[dict[str, object]]] = defaultdict(list)
    for row in seen:
        by_scenario[str(row["scenario"])].append(row)
    for scenario, rows in sorted(by_scenario.items()):
        killed = [row for row in rows if row["verdict"] == "killed"]
        checks = ", ".join(sorted({str(row["check"]) for row in killed}))
        print(f"{scenario:<42} {len(killed)} of {len(rows)} killed  by {checks or 'nothing'}")
        for row in rows:
            if row not in killed:
                word = WORDS[str(row["verdict"])]
                what = f"{row['file']}: {row['new']!r}" if row["file"] else f"the VM: {row['guest']!r}"
                print(f"    {word} {what}: {row.get('said') or 'it passed'}")
    not_killed = [str(row["verdict"]) for row in seen if row["verdict"] != "killed"]
    counts = ", ".join(f"{not_killed.count(verdict)} {WORDS[verdict].lower()}" for verdict in WORDS)
    print(f"{count} mutants on virtual machines, {len(seen)} run, {counts}")
    return 1 if not_killed or len(seen) < count else 0
