"""The JUnit view: one suite a scenario, one case a check, and one case for the scenario itself."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from harness.report.model import RunReport, ScenarioRow, Verdict

# What XML 1.0 cannot carry, not even escaped; a guest's output may hold all of it.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(report: RunReport) -> str:
    """Return the JUnit XML of a run, for the test views of CI systems."""
    root = ET.Element("testsuites", name=_clean(report.name), time=f"{report.seconds:.3f}")
    for scenario in report.scenarios:
        root.append(_suite(scenario, report))
    if report.common.checks or report.verdict in {"failed", "error"}:
        root.append(_suite(_run_itself(report), report))
    for attribute in ("tests", "failures", "errors", "skipped"):
        root.set(attribute, str(sum(int(suite.get(attribute, "0")) for suite in root)))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _run_itself(report: RunReport) -> ScenarioRow:
    return ScenarioRow(
        "run",
        seconds=report.seconds,
        verdict=report.verdict,
        reason=report.reason,
        checks=report.common.checks,
        steps=report.common.steps,
    )


def _suite(scenario: ScenarioRow, report: RunReport) -> ET.Element:
    suite = ET.Element(
        "testsuite",
        name=_clean(scenario.id),
        time=f"{scenario.seconds or 0:.3f}",
        timestamp=report.started_at[:19],
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in {**report.facts, **_facts(scenario)}.items():
        ET.SubElement(properties, "property", name=_clean(name), value=_clean(value))
    own = ET.SubElement(
        suite, "testcase", classname=_clean(scenario.id), name="scenario", time=f"{scenario.seconds or 0:.3f}"
    )
    _outcome(own, scenario.verdict or "error", scenario.reason, _timeline(scenario))
    for check in scenario.checks:
        case = ET.SubElement(
            suite, "testcase", classname=_clean(scenario.id), name=_clean(check.name), time="0"
        )
        _outcome(case, check.verdict, check.reason, "\n".join(check.details))
    for attribute, tag in {"failures": "failure", "errors": "error", "skipped": "skipped"}.items():
        suite.set(attribute, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("tests", str(len(suite.findall("testcase"))))
    return suite


def _outcome(case: ET.Element, verdict: Verdict, reason: str, details: str) -> None:
    tag = {"failed": "failure", "error": "error", "skipped": "skipped"}.get(verdict)
    if tag is not None:
        ET.SubElement(case, tag, message=_clean(reason)).text = _clean(f"{reason}\n{details}".strip())


def _facts(scenario: ScenarioRow) -> dict[str, str]:
    gap = scenario.longest_gap_ms
    facts = {
        "vm_type": scenario.vm_type,
        "from_release": scenario.from_release,
        "to_release": scenario.to_release,
        "template": scenario.template,
        "services_restarted": ", ".join(scenario.services),
        "rules_reapplied": "" if scenario.rules is None else str(scenario.rules),
        "longest_gap_ms": "" if gap is None else f"{gap:.0f}",
    }
    return {name: value for name, value in facts.items() if value}


def _timeline(scenario: ScenarioRow) -> str:
    lines = []
    for step in scenario.steps:
        took = "did not end" if step.seconds is None else f"{step.seconds:.3f} s"
        lines.append(f"{step.t:10.3f}  {step.name}  {took}  {step.verdict or ''} {step.reason}".rstrip())
    return "\n".join(lines)


def _clean(text: str) -> str:
    return _ILLEGAL.sub("�", text)
