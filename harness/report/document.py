"""``run.json``: what a run proved, of which bundle, for machines; its schema is ``run.schema.json`` in this room."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from harness.report.formats import report_format
from harness.report.rows import CheckRow, RunReport, ScenarioRow

SCHEMA_NUMBER = 1


def schema() -> dict[str, Any]:
    """Return the JSON schema of ``run.json``."""
    loaded: dict[str, Any] = json.loads((files("harness.report") / "run.schema.json").read_text("utf-8"))
    return loaded


@report_format("run.json")
def render_document(report: RunReport) -> str:
    """Return ``run.json`` of a run."""
    return json.dumps(document(report), indent=2) + "\n"


def document(report: RunReport) -> dict[str, Any]:
    """Return the content of ``run.json``."""
    return {
        "schema": SCHEMA_NUMBER,
        "run": report.name,
        "started_at": report.started_at,
        "seconds": report.seconds,
        "verdict": report.verdict,
        "reason": report.reason,
        "options": report.options,
        "subjects": list(report.subjects),
        "damaged": list(report.damaged),
        "scenarios": [_scenario(row) for row in report.scenarios],
        "common_checks": [_check(check) for check in report.common.checks],
    }


def _scenario(row: ScenarioRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "type": row.vm_type,
        "from": row.from_release,
        "to": row.to_release,
        "template": row.template,
        "verdict": row.verdict or "error",
        "reason": row.reason,
        "seconds": row.seconds,
        "passed": len(row.held),
        "failed": len(row.failures),
        "skipped": len(row.skipped),
        "services_restarted": list(row.services),
        "rules_reapplied": row.rules,
        "longest_gap_ms": row.longest_gap_ms,
        "checks": [_check(check) for check in row.checks],
        "patches": [
            {
                "occasion": patch.occasion,
                "success": patch.success,
                "seconds": patch.seconds,
                "details": patch.details,
                "log": list(patch.log),
            }
            for patch in row.patches
        ],
        "logs": list(row.logs),
    }


def _check(check: CheckRow) -> dict[str, Any]:
    return {
        "name": check.name,
        "occasion": check.occasion,
        "verdict": check.verdict,
        "reason": check.reason,
        "details": list(check.details),
        "seconds": check.seconds,
    }


def proof(report: RunReport) -> list[tuple[str, str]]:
    """Return what was tested, by whom and where, for people: names and values, each once."""
    found: list[tuple[str, str]] = []
    for subject in report.subjects:
        for part, record in subject.items():
            found += _lines(part, record)
    return list(dict.fromkeys(found))


def _lines(part: str, record: object) -> list[tuple[str, str]]:
    """Return a record of any depth as lines; a digest or another long word stays whole."""
    if isinstance(record, dict):
        return [line for name, value in record.items() for line in _lines(f"{part} {name}", value)]
    if isinstance(record, list):
        record = ", ".join(map(str, record))
    return [(part, str(record))] if str(record) else []
