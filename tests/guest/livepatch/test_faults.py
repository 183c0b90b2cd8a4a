"""A full or dying disk at every write, signals at every step, and interruptions at random moments."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.guest.livepatch import walk
from tests.guest.livepatch.folder_vm import FolderVm, ScriptRun
from tests.guest.livepatch.states import differences

HERE = Path(__file__).resolve().parent
SCRIPT = "/var/cache/cloud/patch-sysvms.sh"
CHUNKS = 4
FAULTS = {"ENOSPC": (errno.ENOSPC, "stay"), "EIO": (errno.EIO, "once")}
TYPE_OF = {"patch": "secstorage", "rollback": "consoleproxy"}


@pytest.fixture(scope="session")
def injector(tmp_path_factory) -> Path:
    program = tmp_path_factory.mktemp("inject") / "inject"
    subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-o", program, HERE / "inject.c"], check=True)
    return program


def _inject(lab: FolderVm, injector: Path, fault: str, number: int) -> tuple[ScriptRun, int]:
    """Run the landed script with one fault; returns the run and how many calls could have failed."""
    error, mode = FAULTS[fault]
    shutil.copy(injector, lab.root / "run/lab/inject")
    command = f"exec /run/lab/inject {error} {mode} {number} /run/lab/count bash {SCRIPT}"
    process = lab.start("-c", command)
    stdout, stderr = process.communicate(timeout=120)
    count = int(lab.read("run/lab/count"))
    return ScriptRun(process.returncode, stdout.decode(), stderr.decode()), count


def _check(stage: walk.Stage, lab: FolderVm, run: ScriptRun, what: str) -> None:
    """The answer is true, and what follows converges."""
    if run.status not in (0, 1):
        raise walk.Mixed(f"{what}: {run}")
    said_new = run.status == 0
    if said_new != ("version:" in run.output) or run.output.count(":") > 1:
        raise walk.Mixed(f"{what}: {run}")
    if said_new and (left := differences(stage.new[lab.type], lab.state(times=False))):
        raise walk.Mixed(f"{what}: success, but {left[:5]} differ from the new state")
    recovery = lab.run("--recover")
    if recovery.status:
        raise walk.Mixed(f"{what}: recovery ended with {recovery}; {walk.log_of(lab)}")
    walk.judge(lab, stage, what, services=True)
    walk.converge(lab, stage, what, second=False)


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("story", ["patch", "rollback"])
def test_a_failing_disk_ends_old_or_new(stage, injector, tally, request, story, fault, chunk):
    type_ = TYPE_OF[story]
    stage.prepare(type_)
    with stage.clone(type_) as lab:
        lab.land(walk.BUNDLE[story]())
        _, count = _inject(lab, injector, fault, 0)
    step = 1 if request.config.getoption("--full") else 15
    draw = random.Random(f"{request.config.getoption('--walk-seed')} {story} {fault}")
    numbers = [min(count, start + draw.randrange(step)) for start in range(1, count + 1, step)][chunk::CHUNKS]
    mixed = []
    for number in numbers:
        with stage.clone(type_) as lab:
            lab.land(walk.BUNDLE[story]())
            run, _ = _inject(lab, injector, fault, number)
            try:
                _check(stage, lab, run, f"{fault} at call {number} of {story}")
            except walk.Mixed as error:
                mixed.append(str(error))
    tally(f"{fault} in a {story}", len(numbers), len(mixed))
    assert not mixed, "\n".join(mixed)


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "PIPE"])
@pytest.mark.parametrize("story", ["patch", "rollback"])
def test_a_signal_ends_old_or_new(stage, tally, request, story, name):
    stage.prepare("router")
    count = len(walk.points(stage, "router", story))
    step = 1 if request.config.getoption("--full") else 5
    draw = random.Random(f"{request.config.getoption('--walk-seed')} {story} {name}")
    numbers = [min(count, start + draw.randrange(step)) for start in range(1, count + 1, step)]
    mixed = []
    for number in numbers:
        with stage.clone("router") as lab:
            run = lab.patch(walk.BUNDLE[story](), LIVEPATCH_CRASH_AT=str(number), LIVEPATCH_CRASH_SIGNAL=name)
            try:
                _check(stage, lab, run, f"SIG{name} at point {number} of {story}")
            except walk.Mixed as error:
                mixed.append(str(error))
    tally(f"SIG{name} in a {story}", len(numbers), len(mixed))
    assert not mixed, "\n".join(mixed)


def test_a_signal_to_the_caller_rolls_back(stage):
    """SIGTERM reaches the worker and leads to a rollback, after what was under way; the caller sees it end."""
    with stage.clone("router") as lab:
        before = lab.state()
        lab.land(walk.BUNDLE["patch"]())
        (lab.root / "run/lab/units/dnsmasq.service/delay").write_text("0.3\n")
        process = lab.start(
            "-c",
            f"bash {SCRIPT} & front=$!;"
            "until grep -qs '^restart dnsmasq.service' /run/lab/systemctl.log; do sleep 0.01; done;"
            "kill -TERM $front; wait $front",
        )
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 1
        assert b"rolled back, stopped by SIGTERM" in stderr
        assert lab.state() == before
        restarts = [line for line in lab.systemctl_log() if line.endswith("restart dnsmasq.service")]
        assert restarts == ["restart dnsmasq.service", "ended restart dnsmasq.service"] * 2


INTERRUPT_CHUNKS = 8


@pytest.mark.parametrize("chunk", range(INTERRUPT_CHUNKS))
def test_random_interrupts_end_old_or_new(stage, tally, request, record_property, chunk):
    """SIGKILL of everything, or SIGTERM, after a random time, in a random story of a random type."""
    seed, total = request.config.getoption("--walk-seed"), request.config.getoption("--interrupts")
    draw = random.Random(f"{seed} interrupts {chunk}")
    record_property("line", f"random interrupts: seed {seed}")
    cases = total // INTERRUPT_CHUNKS
    mixed = []
    for number in range(cases):
        type_, story = draw.choice(walk.TYPES), draw.choice(("patch", "rollback"))
        how, after = draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)), draw.uniform(0.0, 0.5)
        stage.prepare(type_)
        what = f"seed {seed}, chunk {chunk}, case {number}: {how.name} after {after:.3f} s of a {story} of a {type_}"
        with stage.clone(type_) as lab:
            lab.land(walk.BUNDLE[story]())
            run = _interrupt(lab, how, after)
            try:
                if run is not None:
                    _check(stage, lab, run, what)
                else:
                    lab.run("--recover")
                    walk.judge(lab, stage, what, services=True)
                    walk.converge(lab, stage, what, second=False)
            except walk.Mixed as error:
                mixed.append(str(error))
    tally("random interrupts", cases, len(mixed))
    assert not mixed, "\n".join(mixed)


def _interrupt(lab: FolderVm, how: signal.Signals, after: float) -> ScriptRun | None:
    """Interrupt a run; returns None when it was killed together with everything that it had started."""
    command = f"bash {SCRIPT} & front=$!; echo $front >/run/lab/front; wait $front; exit $?"
    process = lab.start("-c", command)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        if how is signal.SIGKILL:
            process.kill()
            process.communicate()
            return None
        for pid in _workers(process.pid):
            os.kill(pid, how)
    stdout, stderr = process.communicate(timeout=120)
    return ScriptRun(process.returncode, stdout.decode(), stderr.decode())


def _workers(top: int) -> list[int]:
    """Return the processes below one that run the script as worker."""
    found, queue = [], [top]
    deadline = time.monotonic() + 1
    while queue and time.monotonic() < deadline:
        pid = queue.pop()
        try:
            queue += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            if b"--worker" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                found.append(pid)
        except OSError:
            continue
    return found[:1]
