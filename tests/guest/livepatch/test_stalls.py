"""A machine that is busy: processes of a patch stand still for a while, and the caller looks often or rarely."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.guest.livepatch import walk
from tests.guest.livepatch.test_faults import SCRIPT

CHUNKS = 4
FEW, MANY = 4, 50  # cases of a chunk: without --full, and with it


def _below(top: int) -> list[int]:
    """Return the processes below one."""
    found: list[int] = []
    queue = [top]
    while queue:
        pid = queue.pop()
        with contextlib.suppress(OSError):
            children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            found += children
            queue += children
    return found


def _stand_still(pid: int, seconds: float) -> None:
    """Let a process stand still; it may have ended meanwhile."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_patch_whose_processes_stand_still_now_and_then_ends_as_any_other(stage, tally, request, chunk):
    seed = request.config.getoption("--walk-seed")
    draw = random.Random(f"{seed} stalls {chunk}")
    wrong = []
    count = MANY if request.config.getoption("--full") else FEW
    for number in range(count):
        type_, story = draw.choice(("router", "consoleproxy")), draw.choice(("patch", "rollback"))
        tick = draw.choice(("0.5", "0.02", "0.004"))
        what = f"seed {seed}, chunk {chunk}, case {number}: {story} of a {type_}, a look each {tick} s"
        stage.prepare(type_)
        with stage.clone(type_) as lab:
            lab.land(walk.BUNDLE[story]())
            process = lab.start(SCRIPT, LIVEPATCH_TICK=tick)
            while process.poll() is None:
                if victims := _below(process.pid):
                    longest = 1.0 if draw.random() < 0.1 else 0.05
                    _stand_still(draw.choice(victims), draw.uniform(0.0, longest))
                time.sleep(draw.uniform(0.0, 0.03))
            stdout, stderr = process.communicate()
            expected = (0, "new") if story == "patch" else (1, "old")
            try:
                verdict = walk.judge(lab, stage, what, services=True, attended=True)
            except walk.Mixed as error:
                wrong.append(str(error))
                continue
            if (process.returncode, verdict) != expected or (b"version:" in stdout) != (story == "patch"):
                wrong.append(
                    f"{what}: {process.returncode}, {verdict}, {stdout!r}, {stderr!r}; {walk.log_of(lab)}"
                )
    tally("processes that stand still", count, len(wrong))
    assert not wrong, "\n".join(wrong)
