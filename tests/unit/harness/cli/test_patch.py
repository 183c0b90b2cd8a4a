"""The commands for VMs that somebody else started: addresses, progress, totals, exit statuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bundle.errors import SysvmError, UsageError
from harness.checks import Outcome
from harness.cli import sysvm
from harness.lab.judged import Judged
from harness.management.server import Patched
from tests.unit.harness.simulator import NEW, Cloud, SimulatedVm


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """Three routers; a connection to 10.0.0.N leads to router N."""
    made = Cloud()
    for number in range(1, 4):
        made.router(f"r-{number}-VM")

    def connect(name: str, host: str, port: int, key: Path) -> SimulatedVm:
        return made.guests[f"r-{host.rpartition('.')[2]}-VM"]

    monkeypatch.setattr("harness.guest.guest.SshGuest", connect)
    return made


@pytest.fixture
def options(tmp_path: Path, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    key = tmp_path / "key"
    key.write_text("key")
    monkeypatch.setattr("harness.kvmagent.patch.load_bundle", lambda folder: cloud.bundle)
    return ["--ssh-key", str(key), "--bundle", "b"]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(sysvm, list(arguments), standalone_mode=False)


def vms(*numbers: int) -> list[str]:
    return [word for number in numbers for word in ("--ssh", f"r-{number}-VM=10.0.0.{number}:3922")]


def test_vms_are_patched_with_progress_and_totals(cloud: Cloud, options: list[str]) -> None:
    cloud.guests["r-2-VM"].signature = NEW
    outcome = call("patch", *vms(1, 2, 3), *options)
    assert outcome.return_value == 0
    assert "[1/3] r-1-VM: patched in" in outcome.stderr
    assert "3 VMs: 2 patched, 1 unchanged" in outcome.stdout
    assert cloud.patches() == ["r-1-VM", "r-3-VM"]


def test_a_failure_ends_with_1_and_the_threshold_stops(cloud: Cloud, options: list[str]) -> None:
    cloud.guests["r-1-VM"].fails = "haproxy is not active\nmore"
    outcome = call("patch", *vms(1, 2), *options, "--max-failures", "1")
    assert outcome.return_value == 1
    assert "[1/2] r-1-VM: failed in" in outcome.stderr
    assert "haproxy is not active\n" in outcome.stderr
    assert "r-2-VM: not started: 1 VMs had failed" in outcome.stderr
    assert "2 VMs: 1 failed, 1 not started" in outcome.stdout


STUCK = {
    "state": "stuck",
    "reason": "service haproxy is failed after the rollback",
    "way_out": "mend that and run /var/lib/cloud-livepatch/patch-sysvms.sh --recover",
}


def test_a_vm_that_is_stuck_tells_its_way_out(cloud: Cloud, options: list[str]) -> None:
    first, second, third = (cloud.guests[f"r-{number}-VM"] for number in (1, 2, 3))
    first.fails = second.fails = "rollback incomplete"
    first.record, second.record = json.dumps(STUCK), json.dumps({"state": "rolled-back", "way_out": ""})
    third.record = first.record  # of a VM whose patch went well nothing is asked
    outcome = call("patch", *vms(1, 2, 3), *options)
    told = [line for line in outcome.stderr.splitlines() if "the way out" in line]
    assert told == [f"r-1-VM: stuck between two releases; the way out: {STUCK['way_out']}"]
    rows = json.loads(call("patch", *vms(1, 2), *options, "--json").stdout)["vms"]
    assert [row["way_out"] for row in rows] == [STUCK["way_out"], ""]


def test_status_offers_no_patch_to_a_vm_that_is_stuck(cloud: Cloud, options: list[str]) -> None:
    cloud.guests["r-1-VM"].record = json.dumps(STUCK)
    outcome = call("status", *vms(1, 2), *options)
    assert f"r-1-VM: stuck; the way out: {STUCK['way_out']}" in outcome.stdout
    rows = json.loads(call("status", *vms(1, 2), *options, "--json").stdout)
    assert [row["live_patch_available"] for row in rows] == [False, True]


def test_the_summary_as_json_adds_up(cloud: Cloud, options: list[str]) -> None:
    document = json.loads(call("patch", *vms(1, 2), *options, "--json", "--workers", "2").stdout)
    assert sum(document["totals"].values()) == len(document["vms"]) == 2


def test_forced_and_the_upstream_agent_are_passed_on(cloud: Cloud, options: list[str]) -> None:
    cloud.guests["r-1-VM"].signature = NEW
    cloud.guests["r-1-VM"].says = "noise\n"
    assert call("patch", *vms(1), *options, "--force").return_value == 1
    assert call("patch", *vms(1), *options, "--force", "--agent", "upstream").return_value == 0


def test_status_shows_a_table_and_json(cloud: Cloud, options: list[str]) -> None:
    cloud.guests["r-2-VM"].unreachable = True
    outcome = call("status", *vms(1, 2), *options)
    assert outcome.return_value == 3
    assert "\nr-2-VM: no SSH login" in outcome.stdout
    rows: list[dict[str, Any]] = json.loads(call("status", *vms(1), *options, "--json").stdout)
    assert (rows[0]["name"], rows[0]["live_patch_available"]) == ("r-1-VM", True)
    assert call("status", *vms(1), *options).return_value == 0


MISTAKES = {
    "no port": (["--ssh", "10.0.0.1"], "invalid address '10.0.0.1'"),
    "port out of range": (["--ssh", "10.0.0.1:99999"], "invalid address"),
    "one twice": (vms(1, 1), "'r-1-VM' is there twice"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_address_is_one_clear_line(mistake: str, cloud: Cloud, options: list[str]) -> None:
    arguments, words = MISTAKES[mistake]
    outcome = call("patch", *arguments, *options)
    assert isinstance(outcome.exception, UsageError)
    assert words in str(outcome.exception)


def test_a_missing_key_is_one_clear_line(cloud: Cloud, tmp_path: Path) -> None:
    outcome = call("status", *vms(1), "--ssh-key", str(tmp_path / "none"), "--bundle", "b")
    assert isinstance(outcome.exception, UsageError)
    assert "no private key at" in str(outcome.exception)


def test_a_kept_vm_is_found_by_its_name(
    cloud: Cloud, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Kept:
        def guest(self) -> SimulatedVm:
            return cloud.guests["r-1-VM"]

    monkeypatch.setattr("harness.kept.listing.find", lambda name: Kept())
    assert "a: patched" in call("patch", "a", "--bundle", "b", "--no-judge").stderr


@pytest.mark.parametrize(
    ("arguments", "words"), [([], "no VM is named"), (["--ssh", "10.0.0.1:3922"], "--ssh needs --ssh-key")]
)
def test_a_call_without_vm_or_key_is_one_clear_line(arguments: list[str], words: str) -> None:
    outcome = call("patch", *arguments, "--bundle", "b")
    assert isinstance(outcome.exception, UsageError)
    assert words in str(outcome.exception)


@pytest.mark.parametrize(
    ("old", "words"),
    [
        (("--parallel", "2"), "warning: --parallel is called --workers now"),
        (("--time-limit", "60"), "warning: --time-limit is called --deadline now"),
        (("--forced",), "warning: --forced is called --force now"),
        (("--serial",), "warning: --serial is the default"),
    ],
)
def test_a_word_of_an_older_version_is_understood_with_a_warning(
    cloud: Cloud, options: list[str], old: tuple[str, ...], words: str
) -> None:
    cloud.guests["r-1-VM"].signature = NEW
    outcome = call("patch", *vms(1), *options, *old)
    assert outcome.return_value == 0
    assert words in outcome.stderr
    # It does what its new word does: only a forced patch is run on a VM that is current.
    assert ("patched in" in outcome.stderr) == (old == ("--forced",))


def test_an_address_without_a_name_is_its_own_name(cloud: Cloud, options: list[str]) -> None:
    outcome = call("patch", "--ssh", "10.0.0.1:3922", *options)
    assert "10.0.0.1:3922: patched" in outcome.stderr


def judged(monkeypatch: pytest.MonkeyPatch, *outcomes: Outcome) -> list[str]:
    """Let every judged VM be patched and have these outcomes; returns the names of those that are judged."""
    names: list[str] = []

    def judge(guest: SimulatedVm, _files: object, act: Callable[[], Patched]) -> Judged:
        names.append(guest.name)
        return Judged(act(), "", outcomes)

    monkeypatch.setattr("harness.lab.judged.patch_and_judge", judge)
    return names


def test_a_patch_that_did_damage_ends_with_1_and_names_the_gravest_first(
    cloud: Cloud, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stray = Outcome("files.no-leftovers", "failed", "1 file")
    outage = Outcome("services.up", "failed", "haproxy is down")
    judged(monkeypatch, stray, outage, Outcome("answer.protocol", "passed"))
    outcome = call("patch", *vms(1), *options, "--judge")
    assert outcome.return_value == 1
    assert "r-1-VM: services.up: haproxy is down\nr-1-VM: files.no-leftovers: 1 file" in outcome.stderr
    assert "1 VMs: 1 patched; 1 checks held, 2 did not" in outcome.stdout


def test_a_vm_of_somebody_else_is_judged_on_request_only(
    cloud: Cloud, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = judged(monkeypatch, Outcome("answer.protocol", "passed"))
    assert call("patch", *vms(1), *options).return_value == 0
    assert names == []
    told = json.loads(call("patch", *vms(2), *options, "--judge", "--json").stdout)
    assert names == ["r-2-VM"]
    assert told["vms"][0]["checks"] == [
        {
            "name": "answer.protocol",
            "verdict": "passed",
            "reason": "",
            "details": [],
            "seconds": 0.0,
            "by_host": False,
        }
    ]


EVIL = "\x1b]0;title\x07\x1b[2J\x9b31m\u202e\ud800"


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["status", "--json"],
        ["patch"],
        ["patch", "--json"],
        ["patch", "--judge"],
        ["patch", "--judge", "--json"],
    ],
    ids=" ".join,
)
def test_a_hostile_guest_moves_no_terminal(
    arguments: list[str], cloud: Cloud, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for guest in cloud.guests.values():
        guest.template = f"Cloudstack Release 4.21.0{EVIL}"
        guest.fails = f"haproxy says {EVIL}"
        guest.record = EVIL
    monkeypatch.setattr(
        "harness.lab.judged.patch_and_judge",
        lambda guest, _files, _act: Judged(None, EVIL, (Outcome("a.b", "failed", EVIL, (EVIL,)),)),
    )
    outcome = call(*arguments, *vms(1, 2), *options)
    assert outcome.exception is None or isinstance(outcome.exception, SysvmError)
    assert outcome.stdout + outcome.stderr
    for text in (outcome.stdout, outcome.stderr):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800]", text)


@pytest.mark.parametrize("arguments", [["exec", "a", "ls"], ["logs", "a"]], ids=" ".join)
def test_a_hostile_guest_of_ones_own_moves_no_terminal_either(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Guest(SimulatedVm):
        def run(self, *_: object, **__: object) -> Any:
            return type("Done", (), {"stdout": EVIL, "stderr": EVIL, "status": 0})

        def __enter__(self) -> Guest:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    class Kept:
        console_log = tmp_path / "console.log"

        def guest(self) -> Guest:
            return Guest("a", [])

    Kept.console_log.write_bytes(EVIL.encode(errors="replace"))
    monkeypatch.setattr("harness.kept.listing.find", lambda _name: Kept())
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _self: True, raising=False)
    outcome = call("vm", *arguments)
    assert outcome.exception is None
    assert "\\x1b]0;title\\x07" in outcome.stdout
    for text in (outcome.stdout, outcome.stderr):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
