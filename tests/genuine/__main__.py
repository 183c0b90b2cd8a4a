"""Run the product on genuine trees and print what each check says: ``python -m tests.genuine NEW OLD [OLD ...]``.

NEW is the checkout to patch to, OLD the ones to patch from. For each type and each script the default scenarios run;
the table names every check that did not hold, with its words. ``SYSVM_TYPES`` chooses types, separated by commas, and
``SYSVM_SCRIPTS`` scripts (``upstream,ours``). As many scenarios run at a time as there are two cores for, one for the
router and one for its tenants: on fewer, users wait for the host, and nobody learns what the patch cost them. The exit
status is 1 when a run with our script did not pass.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import Any

TYPES = "router,vpcrouter,ilbvm,dhcpsrvr,secstorage,consoleproxy"
SCRIPTS = "upstream,ours"
WORKERS = min(2, max(1, len(os.sched_getaffinity(0)) // 2))


@dataclass(frozen=True)
class Run:
    """One run: the trees, the type and the script, and its exit status and report."""

    old: str
    vm_type: str
    script: str
    status: int
    report: dict[str, Any] | None
    error: str


def run(new: str, old: str, vm_type: str, script: str) -> Run:
    """Run the default scenarios on a pair of trees."""
    with tempfile.TemporaryFile("w+") as errors:
        command = [
            sys.executable, "-c", "from harness.cli import main; main()", "run", "--source", new, "--from-source", old,
            "--type", vm_type, "--script", script, "--workers", str(WORKERS), "--json",
        ]  # fmt: skip
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True, check=False)
        errors.seek(0)
        said = errors.read().strip().splitlines()
    try:
        report = json.loads(done.stdout)
    except ValueError:
        report = None
    return Run(old, vm_type, script, done.returncode, report, said[-1] if said else "")


def table(found: Run) -> list[str]:
    """Return the rows of one run: scenario, verdict, and each check that did not hold."""
    head = f"| {found.vm_type} from {found.old.rpartition('/')[2]} | {found.script} "
    if found.report is None:
        return [f"{head}| no report | status {found.status} | {found.error} |"]
    rows = []
    for scenario in found.report["scenarios"]:
        bad = [check for check in scenario["checks"] if check["verdict"] in {"failed", "error"}]
        rows.append(
            f"{head}| {scenario['id']} | {scenario['verdict']} | {scenario.get('reason', '')[:160]} |"
        )
        rows += [f"| | | | {check['name']} | {check['reason'][:240]} |" for check in bad]
    return rows


def main(trees: list[str]) -> int:
    """Run everything and print the table; returns the exit status."""
    if len(trees) < 2:
        print("genuine: no trees named: nox -s genuine -- TREE-TO TREE-FROM [TREE-FROM ...]")
        return 0
    new, *olds = trees
    types = os.environ.get("SYSVM_TYPES", TYPES).split(",")
    scripts = os.environ.get("SYSVM_SCRIPTS", SCRIPTS).split(",")
    print("| subject | script | scenario | verdict or check | words |\n|---|---|---|---|---|")
    worst = 0
    for old in olds:
        for vm_type in types:
            for script in scripts:
                found = run(new, old, vm_type, script)
                print("\n".join(table(found)), flush=True)
                if script == "ours" and found.status != 0:
                    worst = 1
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
