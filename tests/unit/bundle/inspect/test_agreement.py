"""``diff`` of the reference payload from 4.21 to 4.22 agrees, service by service, with what a run of it saw.

``tests/data/events-4.21-4.22.jsonl`` is from the event log of ``sysvm run``: what became of the services in a patch
that succeeded, and in one that was rolled back. ``tests/e2e/test_main_job.py`` asks the same of a run of its own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bundle import catalogue
from bundle.build import BuildOptions, build
from bundle.inspect import diff_report
from bundle.inspect.contents import take
from bundle.inspect.diff import compare
from bundle.services import Policy
from tests.agreement import seen, told

RECORDED = Path(__file__).resolve().parents[3] / "data/events-4.21-4.22.jsonl"
SCENARIO = "router-from-4.21-live-patch"


def _said(folder: Path, policy: Policy) -> dict[str, str]:
    old = build(BuildOptions(output=folder / "old", release="4.21", cache=False)).folder
    new = build(BuildOptions(output=folder / "new", release="4.22", restart=policy, cache=False)).folder
    found = compare(take(old), take(new), catalogue.load())
    return told(diff_report.document(found, "old", "new", {}), "router", "router")


def test_diff_agrees_with_the_events_of_a_run(tmp_path: Path) -> None:
    rows = seen(RECORDED, SCENARIO)
    assert rows == [{"haproxy": "reloaded", "apache2": "reloaded", "dnsmasq": "restarted"}]
    assert [_said(tmp_path, "graceful")] == rows


@pytest.mark.parametrize("policy", ["always", "changed"])
def test_a_script_that_does_something_else_would_not_agree(tmp_path: Path, policy: Policy) -> None:
    assert [_said(tmp_path, policy)] != seen(RECORDED, SCENARIO)
