"""The list of checks for people and machines."""

from __future__ import annotations

import json

from click.testing import CliRunner

from bundle.errors import UsageError
from harness.checks import checks
from harness.cli import sysvm


def test_every_check_is_listed_with_what_holds_and_why() -> None:
    outcome = CliRunner().invoke(sysvm, ["checks"], standalone_mode=False)
    for check in checks():
        assert check.name in outcome.output
        assert f"({check.why})" in outcome.output


def test_a_subject_narrows_the_list() -> None:
    outcome = CliRunner().invoke(sysvm, ["checks", "sshd", "--json"], standalone_mode=False)
    rows = json.loads(outcome.output)
    assert [row["name"] for row in rows] == ["sshd.control-only", "sshd.host-keys"]
    where = "The SSH daemon listens on the control address and nowhere else, or where it listened before the patch."
    assert rows[0]["holds"] == where


def test_an_unknown_name_lists_the_subjects() -> None:
    outcome = CliRunner().invoke(sysvm, ["checks", "nope"], standalone_mode=False)
    assert isinstance(outcome.exception, UsageError)
    assert "subjects: answer, console, disk, files" in str(outcome.exception)
