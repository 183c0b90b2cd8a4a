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
        "retried": list(row.retried),
    }


def _check(check: CheckRow) -> dict[str, Any]:
    return {
        "name": check.name,
        "occasion": check.occasion,
        "verdict": check.verdict,
        "reason": check.reason,
        "details": list(check.details),
        "seconds": check.seconds,
        "known": check.known,
    }


def tested(report: RunReport) -> list[tuple[str, str]]:
    """Return what was tested in a few lines for people: bundle, script, template, way, tool and host."""
    found: dict[str, list[str]] = {}
    for subject in report.subjects:
        for name, value in _brief(subject):
            values = found.setdefault(name, [])
            values += [value] if value not in values else []
    ways: dict[str, dict[str, None]] = {}
    for row in report.scenarios:
        if row.from_release:
            ways.setdefault(row.to_release, {})[row.from_release] = None
    told = [f"{', '.join(before)} → {after}" for after, before in ways.items()]
    shown = {**found, **({"from → to": told} if told else {})}
    return [(name, "; ".join(values)) for name, values in shown.items()]


def _brief(subject: dict[str, Any]) -> list[tuple[str, str]]:
    """Return one cell's record in a few lines; what is not there is left out, for a log may be damaged."""
    parts = {
        name: part if isinstance(part := subject.get(name), dict) else {}
        for name in ("bundle", "template", "tool", "host")
    }
    bundle, tool, host = parts["bundle"], parts["tool"], parts["host"]
    rows = []
    if bundle:
        sealed = "signed" if bundle.get("signed") else "not signed"
        rows.append(("bundle", f"{bundle.get('version')} ({bundle.get('origin')}, {sealed})"))
        rows.append(("content digest", str(bundle.get("content_digest", ""))))
        rows.append(("script", str(bundle.get("script", ""))))
    rows.append(("template", str(parts["template"].get("label", ""))))
    if tool:
        rows.append(
            ("tool", f"sysvm-livepatch {tool.get('version')} {str(tool.get('commit') or '')[:12]}".strip())
        )
    if host:
        rows.append(("host", f"{host.get('machine')}, QEMU {host.get('qemu')}, {host.get('accelerator')}"))
    return [(name, value) for name, value in rows if value]


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
