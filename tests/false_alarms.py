"""The count of false alarms in healthy runs: ``python -m tests.false_alarms RESULTS...``, a table.

Each RESULTS is the folder of a run of ``sysvm run`` with a bundle that is known to be good, or one of several. Every
check that failed there is a false alarm, whoever is to blame; a check of which the host took the means is none, and is
counted apart.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Count:
    """What became of one scenario on one VM type in all runs; ``seconds`` is of those that came to their end."""

    times: int = 0
    seconds: list[float] = field(default_factory=list)
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    host: int = 0


def runs(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the documents of a run's folder, or of all runs in a folder of several."""
    own = folder / "run.json"
    for path in [own] if own.exists() else sorted(folder.glob("2*/run.json")):
        yield json.loads(path.read_text(encoding="utf-8"))


def counted(documents: Iterator[dict[str, Any]]) -> dict[tuple[str, str], Count]:
    """Return what became of each scenario, by VM type and scenario."""
    found: dict[tuple[str, str], Count] = defaultdict(Count)
    for document in documents:
        for row in document["scenarios"]:
            scenario = row["id"].partition(f"-from-{row['from']}-")[2]
            count = found[row["type"], scenario]
            count.times += 1
            count.seconds += [row["seconds"]] if row["seconds"] is not None else []
            for check in row["checks"]:
                count.passed += check["verdict"] == "passed"
                count.host += check["verdict"] == "error"
                if check["verdict"] == "failed":
                    count.failed.append(f"{check['name']}: {check['reason']}")
            if row["verdict"] == "failed" and not row["failed"]:
                count.failed.append(row["reason"])
            count.host += row["verdict"] == "error"
    return dict(found)


def main(folders: list[str]) -> None:
    """Print the table, and every false alarm."""
    found = counted(document for folder in folders for document in runs(Path(folder)))
    print("| type | scenario | times | seconds | checks that passed | false alarms | host's fault |")
    print("|---|---|---|---|---|---|---|")
    for (vm_type, scenario), count in sorted(found.items()):
        took = f"{min(count.seconds):.0f} to {max(count.seconds):.0f}" if count.seconds else "-"
        print(
            f"| {vm_type} | {scenario} | {count.times} | {took} | {count.passed} | {len(count.failed)} "
            f"| {count.host} |"
        )
    for (vm_type, scenario), count in sorted(found.items()):
        for alarm in count.failed:
            print(f"{vm_type} {scenario}: {alarm}")


if __name__ == "__main__":
    main(sys.argv[1:])
