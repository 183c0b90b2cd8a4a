"""The command itself, with the real ``cs`` over HTTP: what it says, what it writes, and how it dies."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from harness.cli import main
from tests import certificates
from tests.unit.harness.rollout.lives import live
from tests.unit.harness.rollout.serving import KEY, SECRET, serving
from tests.unit.harness.rollout.stand_in import NEW, Cloud, small

KILLS = int(os.environ.get("SYSVM_ROLLOUT_KILLS", "20"))
QUICK = ("--settle", "5s", "--soak", "0", "--grace", "1s", "--yes", "--scripts-digest", NEW)


@pytest.fixture
def cloud():
    return Cloud(seconds=0.0)


@pytest.fixture
def ids(cloud):
    return small(cloud)


@pytest.fixture
def server(cloud, ids):
    with serving(cloud) as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "home").mkdir()
    return tmp_path


def environment(server, folder, **more):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDSTACK_")}
    access = {"CLOUDSTACK_ENDPOINT": server.endpoint, "CLOUDSTACK_KEY": KEY, "CLOUDSTACK_SECRET": SECRET}
    return {**clean, **access, "HOME": str(folder / "home"), "PYTHONPATH": str(Path.cwd()), **more}


def arguments(*words):
    return [sys.executable, "-c", "from harness.cli import main; main()", "rollout", *words]


def sysvm(server, folder, *words, **more):
    return subprocess.run(
        arguments(*words),
        env=environment(server, folder, **more),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_plan_is_what_comes_without_a_word_and_it_only_reads(server, cloud, folder):
    done = sysvm(server, folder)
    assert done.returncode == 0, done.stderr
    assert "6 units to patch" in done.stdout
    assert "no --scripts-digest" in done.stdout
    assert not cloud.patched
    assert {call for call in cloud.calls if not call.startswith("list")} == set()
    assert sorted(path.name for path in folder.iterdir()) == ["home"]


def test_a_dry_run_names_every_call_and_writes_and_sends_nothing(server, cloud, ids, folder):
    done = sysvm(server, folder, "run", "--dry-run", "--scripts-digest", NEW)
    assert done.returncode == 0, done.stderr
    assert f"restartVPC id={ids['shop']} cleanup=false livepatch=true" in done.stdout
    assert f"patchSystemVm id={ids['cpvm']} forced=true" in done.stdout
    assert not cloud.patched
    assert sorted(path.name for path in folder.iterdir()) == ["home"]


def test_nothing_begins_without_a_word_of_consent(server, cloud, folder):
    done = sysvm(server, folder, "run", "--scripts-digest", NEW)
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert not cloud.patched
    assert not (folder / "results").exists()


def test_a_run_patches_verifies_and_reports(server, cloud, ids, folder):
    done = sysvm(server, folder, "run", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert dict(cloud.patched) == dict.fromkeys(ids.values(), 1)
    assert "6 units: 6 passed" in done.stdout
    run = folder / "results" / "latest"
    suites = ET.parse(run / "junit.xml").getroot()
    assert len(suites) == 6
    assert suites.get("failures") == "0"
    assert "rollout.scripts" in (run / "report.html").read_text()
    assert "| system VM v-2-VM | passed |" in (run / "report.md").read_text()
    assert json.loads((run / "run.json").read_text())["verdict"] == "passed"
    again = sysvm(server, folder, "run", *QUICK)
    assert "nothing is to be patched" in again.stderr
    assert sysvm(server, folder, "report").returncode == 0


def test_no_secret_is_told_or_kept(server, cloud, ids, folder):
    cloud.lies[ids["web"]] = "fails"
    server.after.append(("restartNetwork",))
    probe = folder / "probe"
    probe.write_text(f"#!/bin/sh\nenv\necho {KEY} {SECRET}\n")
    probe.chmod(0o755)
    done = sysvm(server, folder, "run", *QUICK, "--probe", str(probe), CLOUDSTACK_TRACE="1")
    assert done.returncode == 1
    told = done.stdout + done.stderr
    kept = "".join(path.read_text() for path in (folder / "results" / "latest").iterdir() if path.is_file())
    assert "[hidden]" in kept
    for text in (told, kept):
        assert KEY not in text
        assert SECRET not in text
        assert "signature" not in text.lower()


def test_keys_come_from_the_file_that_cs_reads(server, folder):
    lines = ["[cloudstack]", f"endpoint = {server.endpoint}", f"key = {KEY}", f"secret = {SECRET}", ""]
    (folder / "home" / ".cloudstack.ini").write_text("\n".join(lines))
    nothing = {"CLOUDSTACK_ENDPOINT": "", "CLOUDSTACK_KEY": "", "CLOUDSTACK_SECRET": ""}
    done = sysvm(server, folder, "plan", **nothing)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "more", "said"),
    [
        ((), {"CLOUDSTACK_SECRET": ""}, "no secret key"),
        ((), {"CLOUDSTACK_ENDPOINT": "", "CLOUDSTACK_KEY": ""}, "no address of an API"),
        ((), {"CLOUDSTACK_ENDPOINT": "https://cloud.example/client/api?x=1"}, "more than scheme"),
        ((), {"CLOUDSTACK_ENDPOINT": "http://cloud.example/client/api"}, "not encrypted"),
        ((), {"CLOUDSTACK_DANGEROUS_NO_TLS_VERIFY": "true"}, "TLS is not verified"),
        (("--user", "admin"), {}, "no password"),
        (("--only", "nothing"), {}, "means no unit"),
        (("--only", "colour=red"), {}, "units have no 'colour'"),
        (("--window", "22-05"), {}, "invalid window"),
        (("--pause", "soon"), {}, "length of time"),
        (("--scripts-digest", "nothing"), {}, "no digest and no file"),
        (("--expect-release", "4.21.0.0"), {}, "is of release 4.22.0.0"),
        (("--plan", "nothing.json"), {}, "No such file"),
    ],
)
def test_a_mistake_is_one_line(server, folder, monkeypatch, capsys, words, more, said):
    for name, value in environment(server, folder, **more).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["sysvm", "rollout", "plan", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert ended.value.code == 2, told
    assert said in told
    assert len(told.splitlines()) == 1


def test_wrong_keys_are_one_line(server, folder):
    done = sysvm(server, folder, "plan", CLOUDSTACK_SECRET="another")
    assert done.returncode == 3
    assert "401" in done.stderr
    assert "another" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_busy_server_is_waited_for(server, cloud, folder):
    server.before += [(429, {"x": {"errorcode": 429, "errortext": "slow down"}}, {"Retry-After": "0"})] * 2
    server.before.append((503, {"x": {"errorcode": 503, "errortext": "maintenance"}}, {"Retry-After": "1"}))
    done = sysvm(server, folder, "plan")
    assert done.returncode == 0, done.stderr
    assert "slow down; asking again" in done.stderr
    assert "maintenance; asking again in 1 s" in done.stderr


def test_an_approved_plan_bounds_a_run(server, cloud, ids, folder):
    made = sysvm(server, folder, "plan", "--json", "--only", "web", "--scripts-digest", NEW)
    document = json.loads(made.stdout)
    assert document["summary"] == {"patch": 1, "current": 0, "blocked": 0, "left out": 5}
    (folder / "plan.json").write_text(made.stdout)
    done = sysvm(server, folder, "run", *QUICK, "--plan", "plan.json")
    assert done.returncode == 0, done.stderr
    assert dict(cloud.patched) == {ids["web"]: 1}


def test_a_page_for_the_change_board_shows_names_as_text(server, cloud, ids, folder):
    cloud.networks[ids["web"]]["name"] = "we|b <b>*x*</b>"
    done = sysvm(server, folder, "plan", "--markdown")
    assert done.returncode == 0
    assert "we\\|b \\<b\\>\\*x\\*\\</b\\>" in done.stdout


def test_a_run_is_ended_well_by_one_signal_and_goes_on_later(server, cloud, ids, folder):
    cloud.seconds = 1.0
    process = subprocess.Popen(
        arguments("run", *QUICK),
        env=environment(server, folder),
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not cloud.patched and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "ended by a person; 5 unit(s) not begun" in out
    assert len(cloud.patched) == 1
    cloud.seconds = 0.0
    assert sysvm(server, folder, "resume").returncode == 0
    assert dict(cloud.patched) == dict.fromkeys(ids.values(), 1)


def test_two_processes_never_run_one_rollout(server, cloud, folder):
    cloud.seconds = 3.0
    words = ("run", *QUICK, "--max", "1")
    process = subprocess.Popen(
        arguments(*words), env=environment(server, folder), cwd=folder, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not cloud.patched and time.monotonic() < deadline:
        time.sleep(0.05)
    second = sysvm(server, folder, "resume")
    assert second.returncode == 3
    assert "being run by another process" in second.stderr
    assert process.wait(60) == 0


def test_a_command_that_is_killed_again_and_again_patches_nothing_twice_and_forgets_nothing(
    server, cloud, folder
):
    """Kills of the real process at random moments; each rollout is resumed until all of it is done."""
    chance, killed, number = random.Random(20), 0, 0
    while killed < KILLS:
        number += 1
        (
            cloud.vms.clear(),
            cloud.networks.clear(),
            cloud.vpcs.clear(),
            cloud.patched.clear(),
            cloud.jobs.clear(),
        )
        ids = small(cloud)
        root = f"results-{number}"
        words = ("run", *QUICK, "--at-once", "2", "--results", root)
        while True:
            process = live(words, environment(server, folder), folder)
            if killed < KILLS:
                killed += die_after(process, cloud, chance.randrange(1, 70), chance.uniform(0.0, 0.01))
            process.join(60)
            if process.exitcode == 0:
                break
            if list((folder / root).glob("*/events.jsonl")) and '"rollout_plan"' in events(folder / root):
                words = ("resume", "--at-once", "2", "--results", root)
        assert dict(cloud.patched) == dict.fromkeys(ids.values(), 1)
        assert cloud.violations == []


def die_after(process, cloud, calls, seconds):
    """Kill a process a moment after so many calls of it; says whether it still lived then."""
    wanted = len(cloud.calls) + calls
    while process.exitcode is None and len(cloud.calls) < wanted:
        time.sleep(0.001)
    time.sleep(seconds)
    process.kill()
    process.join(60)
    return process.exitcode == -signal.SIGKILL


def events(root):
    return next(root.glob("2*/events.jsonl")).read_text()


def test_a_server_s_certificate_is_verified(server, folder):
    context = certificates.context(folder, "127.0.0.1")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    address = server.endpoint.replace("http:", "https:")
    strange = sysvm(server, folder, "plan", CLOUDSTACK_ENDPOINT=address)
    assert strange.returncode == 2, strange.stderr
    assert "its certificate is not trusted" in strange.stderr
    known = sysvm(
        server, folder, "plan", CLOUDSTACK_ENDPOINT=address, CLOUDSTACK_VERIFY=str(folder / "server.pem")
    )
    assert known.returncode == 0, known.stderr
