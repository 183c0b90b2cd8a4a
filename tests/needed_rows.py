"""The record of what reviewed rows excused in real runs: ``tests/data/needed-rows.json``.

``python -m tests.needed_rows RESULTS...`` adds runs to it: each RESULTS is the folder of a run of ``sysvm run``, or one
of several. A row is needed where it let something pass; of each, the record has how many differences at most in one
comparison, by VM type and scenario. Rows that are no longer in the lists leave the record.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bundle.errors import UsageError
from harness.lab import reviewed as comparisons
from harness.observe import journal, reviewed
from harness.record.events import Event, read

RECORD = Path(__file__).parent / "data" / "needed-rows.json"
MADE_BY = "python -m tests.needed_rows RESULTS..."


def rows() -> dict[str, tuple[str, ...]]:
    """Return every row of every list, by its first name: the names that runs have for it, one a pattern."""
    found = [
        tuple(reviewed.named(kind, pattern) for pattern in row.written)
        for kind in reviewed.KINDS
        for row in reviewed.rows(kind)
    ]
    found += [
        (row.name,) for comparison in comparisons.REVIEWED_LISTS for row in comparisons.rows(comparison)
    ]
    found += [(row.name,) for row in journal.allowed()]
    return {names[0]: names for names in found}


def idle(record: dict[str, Any]) -> list[str]:
    """Return the rows that have let nothing pass, by their first names, and that do not say why."""
    return [
        row
        for row, names in rows().items()
        if not any(name in record["seen"] for name in names) and row not in record["unseen"]
    ]


def load() -> dict[str, Any]:
    """Return the record: ``seen``, row to type to scenario to count; ``unseen``, row to why no run can show it."""
    record: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return record


def merged(record: dict[str, Any], events: list[Event]) -> dict[str, Any]:
    """Return a record with what the events of a run say.

    Raises:
        UsageError: they are no scenario's: tests do damage on purpose, which no row is for.
    """
    there = {name for names in rows().values() for name in names}
    seen = {row: where for row, where in record["seen"].items() if row in there}
    types = _types(events)
    for event in events:
        if event.kind == "excused":
            scenario, vm_type = event["scenario"], types.get(event["scenario"])
            if vm_type is None:
                raise UsageError(f"{scenario}: no scenario of 'sysvm run'; name results of healthy runs")
            plain = scenario.removeprefix(f"{event.get('cell')}-")
            for row, count in event["rows"].items():
                if row in there:
                    of_type = seen.setdefault(row, {}).setdefault(vm_type, {})
                    of_type[plain] = max(count, of_type.get(plain, 0))
    return {"made_by": MADE_BY, "seen": seen, "unseen": record["unseen"]}


def _types(events: list[Event]) -> dict[str, str]:
    """Return the VM type of each scenario, with a word where it ran CloudStack's own scripts."""
    options = next((event["options"] for event in events if event.kind == "options"), {})
    own = " with CloudStack's own scripts" if options.get("--from-source") else ""
    return {
        event["scenario"]: f"{event['type']}{own}" for event in events if event.kind == "scenario_started"
    }


def logs(folder: Path) -> Iterator[Path]:
    """Yield the event logs of a run's folder, or of all runs in a folder of several."""
    own = folder / "events.jsonl"
    yield from [own] if own.exists() else sorted(folder.glob("*/events.jsonl"))


def main(arguments: list[str]) -> None:
    """Add the runs of some folders to the record."""
    record = load()
    for folder in arguments:
        for log in logs(Path(folder)):
            record = merged(record, read(log))
    RECORD.write_text(
        json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    print("\n".join(f"not needed so far: {row}" for row in idle(record)))


if __name__ == "__main__":
    main(sys.argv[1:])
