"""The JUnit view: one suite a scenario, one case a check, and one case for the scenario itself.

CI systems know a case by file, class and name, and drop all but one of those that have the same: a check that is made
after each of two patches says after which.
"""

from __future__ import annotations

import re
from collections import Counter
from xml.etree import ElementTree as ET

from bundle.sink import escape
from harness.report.formats import report_format
from harness.report.rows import CheckRow, RunReport, ScenarioRow, Verdict

# CI systems read no more than some ten megabytes of it: of a run with more checks, those that held are counted only.
MOST_CASES = 50_000
# What XML 1.0 cannot carry, not even escaped, and no terminal would obey either.
_ILLEGAL = re.compile("[\ufffe\uffff]")


@report_format("junit.xml")
def render_junit(report: RunReport) -> str:
    """Return the JUnit XML of a run, for the test views of CI systems."""
    root = ET.Element("testsuites", name=_clean(report.name), time=f"{report.seconds:.3f}")
    whole = sum(len(scenario.checks) for scenario in report.scenarios) <= MOST_CASES
    for scenario in report.scenarios:
        root.append(_suite(scenario, report, whole=whole))
    if report.common.checks or report.verdict in {"failed", "error"}:
        root.append(_suite(_run_itself(report), report, whole=whole))
    for attribute in ("tests", "failures", "errors", "skipped"):
        root.set(attribute, str(sum(int(suite.get(attribute, "0")) for suite in root)))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _run_itself(report: RunReport) -> ScenarioRow:
    return ScenarioRow(
        "run",
        at=report.started_at,
        seconds=report.seconds,
        verdict=report.verdict,
        reason=report.reason,
        checks=report.common.checks,
        steps=report.common.steps,
    )


def _suite(scenario: ScenarioRow, report: RunReport, *, whole: bool) -> ET.Element:
    suite = ET.Element(
        "testsuite",
        name=_clean(scenario.id),
        time=f"{scenario.seconds or 0:.3f}",
        timestamp=(scenario.at or report.started_at)[:19],
    )
    properties = ET.SubElement(suite, "properties")
    facts = report.facts if whole else {}
    for name, value in {**facts, **_digests(report), **_facts(scenario)}.items():
        ET.SubElement(properties, "property", name=_clean(name), value=_clean(value))
    own = _case(suite, scenario, "scenario", scenario.seconds or 0)
    _outcome(own, scenario.verdict or "error", scenario.reason, _story(scenario))
    if said := _output(scenario):
        ET.SubElement(own, "system-out").text = _clean(said)
    taken = Counter({"scenario": 1})
    if not whole:
        _case(suite, scenario, f"{len(scenario.held)} checks passed, {len(scenario.skipped)} skipped", 0)
    for check in scenario.checks if whole else (*scenario.failures, *scenario.known):
        case = _case(suite, scenario, _name(check, taken), check.seconds)
        if check.known:
            _outcome(case, "skipped", check.known, "\n".join([check.reason, *check.details]))
        else:
            _outcome(case, check.verdict, check.reason, "\n".join(check.details))
    for attribute, tag in {"failures": "failure", "errors": "error", "skipped": "skipped"}.items():
        suite.set(attribute, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("tests", str(len(suite.findall("testcase"))))
    return suite


def _case(suite: ET.Element, scenario: ScenarioRow, name: str, seconds: float) -> ET.Element:
    case = ET.SubElement(
        suite, "testcase", classname=_clean(scenario.id), name=_clean(name), time=f"{seconds:.3f}"
    )
    if scenario.file:
        case.set("file", _clean(scenario.file))
    return case


def _name(check: CheckRow, taken: Counter[str]) -> str:
    """Return a case's name that no other of the suite has: the check, its occasion, and a number if need be."""
    name = f"{check.name} ({check.occasion})" if check.occasion else check.name
    taken[name] += 1
    return name if taken[name] == 1 else f"{name} #{taken[name]}"


def _outcome(case: ET.Element, verdict: Verdict, reason: str, details: str) -> None:
    tag = {"failed": "failure", "error": "error", "skipped": "skipped"}.get(verdict)
    if tag is not None:
        ET.SubElement(case, tag, message=_clean(reason)).text = _clean(f"{reason}\n{details}".strip())


def _digests(report: RunReport) -> dict[str, str]:
    """Return the digests of what was tested; several bundles of one run stand side by side."""
    found: dict[str, list[str]] = {}
    for subject in report.subjects:
        bundle = subject.get("bundle")
        files = bundle.get("files") if isinstance(bundle, dict) else None
        for name, digest in (files if isinstance(files, dict) else {}).items():
            values = found.setdefault(f"bundle.{name}", [])
            values += [str(digest)] if str(digest) not in values else []
    return {name: ", ".join(values) for name, values in found.items()}


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


def _story(scenario: ScenarioRow) -> str:
    """Return what happened, in its order, and what the script logged of each patch that failed."""
    rows = []
    for step in scenario.steps:
        took = "did not end" if step.seconds is None else f"{step.seconds:.3f} s"
        rows.append((step.t, f"{step.title}  {took}  {step.verdict or ''} {step.reason}".rstrip()))
    rows += [(t, f"script: {said}") for patch in scenario.patches for t, said in patch.said]
    told = [f"{t:10.3f}  {line}" for t, line in sorted(rows, key=lambda row: row[0])]
    for patch in scenario.patches:
        if not patch.success and patch.log:
            told += [
                f"log of the script, {patch.occasion or 'failed patch'}:",
                *(f"    {x}" for x in patch.log),
            ]
    return "\n".join(told)


def _output(scenario: ScenarioRow) -> str:
    """Return the logs, as CI systems find attachments; and the script's words, which failed on purpose or not."""
    # A patch that had to fail, and did, is in the log that is attached.
    bad = scenario.verdict != "passed"
    failed = [patch for patch in scenario.patches if bad and not patch.success and patch.log]
    said = [line for patch in failed for line in (f"log of the script, {patch.occasion}:", *patch.log)]
    return "\n".join([*said, *(f"[[ATTACHMENT|{name}]]" for name in scenario.logs)])


def _clean(text: str) -> str:
    return _ILLEGAL.sub("�", escape(text))
