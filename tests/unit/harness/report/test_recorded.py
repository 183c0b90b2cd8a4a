"""The views of runs of the product that were recorded: nothing here is invented."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from click.testing import CliRunner

from harness.cli import sysvm
from harness.report import compare, render_junit
from harness.report.cause import first_cause, telling
from harness.report.markdown import render_markdown
from harness.report.timeline import drawings
from tests.unit.harness.report.recorded import DATA, recorded

ALERT = "unknown keyword 'this-is-no-keyword' in 'global' section"


def test_every_step_of_a_recorded_run_belongs_to_a_scenario() -> None:
    report = recorded("main-job")
    assert report.common.steps == ()
    for row in report.scenarios:
        assert {"observe before", "live patch", "observe after the patch", "prove the rules"} <= {
            step.name for step in row.steps
        }
        assert all(step.verdict == "passed" for step in row.steps)


def test_the_phases_of_the_script_lie_within_the_step_that_runs_it() -> None:
    for row in recorded("main-job").scenarios:
        runs = [step for step in row.steps if step.name == "live patch"]
        for patch, step in zip(row.patches, runs, strict=True):
            names = [phase.name for phase in patch.phases]
            assert names in (
                ["prepare", "apply", "restart", "commit"], ["prepare", "apply", "restart", "rollback", "undone"], [],
            )  # fmt: skip
            for phase in patch.phases:
                # The guest's date has whole seconds.
                assert step.t - 1 <= phase.t <= phase.t + phase.seconds <= step.t + (step.seconds or 0) + 1


def test_a_recorded_run_is_drawn_with_phases_services_probes_and_rules() -> None:
    row = next(row for row in recorded("main-job").scenarios if row.id.endswith("live-patch"))
    first, second = drawings(row)
    labels = [lane.label for lane in first.lanes]
    assert labels[:2] == ["steps", "script"]
    assert set(labels[2:5]) == {"haproxy", "apache2", "dnsmasq"}
    assert (
        len([label for label in labels if label.startswith(("load balancer", "port forward", "static NAT"))])
        == 3
    )
    assert "rules" in {bar.kind for bar in first.lanes[0].bars}
    assert all(0 <= bar.begin <= bar.end <= first.seconds for lane in first.lanes for bar in lane.bars)
    # Nothing was done the second time, and the probes ran all the same.
    assert "script" not in {lane.label for lane in second.lanes}


def test_the_first_cause_is_the_failed_patch_in_the_words_of_the_service() -> None:
    cause = first_cause(recorded("broken-bundle"))
    assert cause is not None
    assert (cause.check, cause.occasion) == ("answer.outcome", "first patch")
    assert cause.lines[0].startswith("haproxy says, asked by haproxy -c")
    assert ALERT in cause.lines[1]


def test_what_tells_of_a_patch_that_asked_no_service_is_its_own_trouble_or_all_that_it_logged() -> None:
    refused = ("@7.10 none put the archives aside", "[12] refused, nothing changed: the VM type x is unknown")
    assert telling(refused) == refused[1:]
    assert telling(refused[:1]) == refused[:1]
    assert telling(()) == ()


def test_a_run_that_passed_has_no_cause() -> None:
    assert first_cause(recorded("main-job")) is None


def test_junit_tells_the_story_of_the_recorded_failure() -> None:
    root = ET.fromstring(render_junit(recorded("broken-bundle")))
    story = root.findtext(".//testcase[@name='scenario']/failure") or ""
    assert re.search(r"r-10-VM: live patch  \d+\.\d+ s  passed", story)
    assert ALERT in story


def test_the_summary_in_markdown_has_the_cause_and_no_markup_of_a_guest() -> None:
    text = render_markdown(recorded("broken-bundle"))
    assert text.startswith("## ❌")
    assert ALERT in text.split("```text\n")[1].split("```")[0]
    assert "| 4\\.21 | ❌ 1 failed |" in text
    row = recorded("broken-bundle").scenarios[0]
    assert row.id.replace("-", "\\-").replace(".", "\\.") in text


def test_what_is_new_since_the_recorded_run_that_passed_is_told() -> None:
    found = compare(recorded("broken-bundle"), recorded("main-job"))
    assert found.broken == ("router-from-4.21-live-patch",)
    assert found.gone == ("router-from-4.21-S01-rollback",)
    news = found.news["router-from-4.21-live-patch"]
    assert news[0] == "failed now, passed then"
    assert any(line.startswith("new: answer.outcome (first patch): the patch failed") for line in news)
    back = compare(recorded("main-job"), recorded("broken-bundle"))
    assert back.mended == ("router-from-4.21-live-patch",)
    assert any(line == "mended: answer.outcome (first patch)" for line in back.news[back.mended[0]])


def test_the_command_tells_what_is_new_as_table_as_markdown_and_as_json(tmp_path) -> None:
    for name in ("broken-bundle", "main-job"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "events.jsonl").write_bytes((DATA / name / "events.jsonl").read_bytes())

    def said(*arguments: str) -> str:
        command = ["report", "broken-bundle", "--against", "main-job", "--results", str(tmp_path), *arguments]
        done = CliRunner().invoke(sysvm, command, standalone_mode=False)
        assert done.return_value == 1, done.output
        return done.output

    assert "against main-job: 1 broken, 1 gone" in said()
    assert "against main\\-job\\: 1 broken, 1 gone" in said("--markdown")
    assert '"broken": [\n      "router-from-4.21-live-patch"' in said("--json")
    assert "Since an earlier run" in (tmp_path / "broken-bundle/report.html").read_text()
