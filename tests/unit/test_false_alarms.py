"""False alarms are counted from what runs say: each check that failed is one, and the faults of the host are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import false_alarms


def scenario(verdict: str, *checks: tuple[str, str], seconds: float | None = 70.0) -> dict[str, object]:
    """Return a scenario of a run, with the verdicts of its checks."""
    return {
        "id": "router-from-4.21-live-patch", "type": "router", "from": "4.21", "verdict": verdict, "reason": "why",
        "seconds": seconds, "failed": sum(of == "failed" for _, of in checks),
        "checks": [{"name": name, "verdict": of, "reason": "because"} for name, of in checks],
    }  # fmt: skip


def test_each_check_that_failed_is_a_false_alarm_and_what_the_host_did_is_not() -> None:
    documents = [
        {"scenarios": [scenario("passed", ("a.b", "passed"), ("c.d", "skipped"))]},
        {"scenarios": [scenario("failed", ("a.b", "failed"), ("c.d", "failed"), ("e.f", "passed"))]},
        {"scenarios": [scenario("error", ("a.b", "error"), seconds=None)]},
        {"scenarios": [scenario("failed", ("a.b", "passed"), seconds=90.0)]},
    ]
    (row,) = false_alarms.counted(iter(documents)).items()
    assert row[0] == ("router", "live-patch")
    assert row[1].times == 4
    assert row[1].seconds == [70.0, 70.0, 90.0]
    assert row[1].passed == 3
    assert row[1].failed == ["a.b: because", "c.d: because", "why"]
    assert row[1].host == 2


def test_the_table_is_of_all_runs_of_a_folder_and_names_each_alarm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, of in ((1, "passed"), (2, "failed")):
        folder = tmp_path / f"2026-{number}"
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"scenarios": [scenario(of, ("a.b", of))]}))
    (tmp_path / "latest").symlink_to(tmp_path / "2026-2")
    false_alarms.main([str(tmp_path)])
    told = capsys.readouterr().out
    assert "| router | live-patch | 2 | 70 to 70 | 1 | 1 | 0 |" in told
    assert "router live-patch: a.b: because" in told
