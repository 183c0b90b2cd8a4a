"""A guest's kernel that stands still is told from one that was starved for a moment or whose clock was moved."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.machine.lockup import locked_up, lockup

STALL = "[  130.219296] rcu: INFO: rcu_preempt self-detected stall on CPU\n"


def stuck(at: float, cpu: int, seconds: int, task: str = "haproxy:921") -> str:
    return f"[{at:12.6f}] watchdog: BUG: soft lockup - CPU#{cpu} stuck for {seconds}s! [{task}]\n"


STANDS = stuck(92.4, 0, 23, "swapper/0:0") + "".join(
    stuck(at, 1, seconds) + STALL for at, seconds in ((92.5, 45), (120.5, 71), (156.5, 104))
)


def test_a_processor_that_is_named_again_and_again_with_the_same_task_stands_still() -> None:
    assert lockup(STANDS.encode()) == (
        "the kernel of the guest has stood still for 104 s (processor 1, in haproxy:921)"
    )


@pytest.mark.parametrize(
    "console",
    [
        "",
        "Debian GNU/Linux 12 r-10-VM ttyS0\n",
        stuck(92.5, 1, 45),
        # the clock was moved twice by a day: no two of these go on from each other
        stuck(9.5, 1, 86400) + stuck(99.5, 1, 23) + stuck(150.5, 1, 86400),
        stuck(9.5, 1, 45, "a:1") + stuck(40.5, 1, 71, "b:2") + stuck(70.5, 1, 97, "c:3"),
        stuck(9.5, 0, 45) + stuck(10.5, 1, 45) + stuck(40.5, 0, 71) + stuck(41.5, 1, 71),
    ],
)
def test_a_guest_that_was_busy_or_starved_for_a_moment_does_not(console: str) -> None:
    assert lockup(console.encode()) == ""


def test_only_what_this_machine_has_printed_lately_counts(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    assert locked_up(log) == ""
    log.write_text(STANDS)
    assert "104 s" in locked_up(log)
    assert locked_up(log, printed_before=len(STANDS)) == ""
    before = time.time() - 600
    os.utime(log, (before, before))
    assert locked_up(log) == ""
