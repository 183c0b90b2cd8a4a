"""The serial console: what no healthy guest prints is seen, a normal boot is not."""

from __future__ import annotations

import pytest

from harness.observe import console_log

CONSOLE_LINES = [
    "Kernel panic - not syncing: VFS",
    "Oops: 0002 [#1] SMP",
    "kernel BUG at mm/slub.c:1",
    "WARNING: CPU: 0 PID: 1 at x",
    "general protection fault: 0000",
    "watchdog: BUG: soft lockup - CPU#0 stuck for 22s!",
    "Watchdog detected hard LOCKUP on cpu 0",
    "rcu: INFO: rcu_sched self-detected stall on CPU",
    "INFO: task jbd2:1 blocked for more than 120 seconds.",
    "Out of memory: Killed process 1",
    "x: page allocation failure: order:4",
    "Buffer I/O error on dev vda1, logical block 0",
    "EXT4-fs error (device vda1): x",
    "Remounting filesystem read-only",
    "systemd[1]: Found ordering cycle on a.service/start",
    "You are in emergency mode.",
    "(initramfs)",
    "haproxy[1]: segfault at 0 ip 0",
    "Aborted (core dumped)",
    "[FAILED] Failed to start haproxy.service",
    "[DEPEND] Dependency failed for x",
    "[ TIME ] Timed out waiting for device",
    "ALERT!  UUID=1 does not exist.  Dropping to a shell!",
    "reboot: Restarting system",
]


def test_the_console_is_searched_for_at_least_seventeen_patterns() -> None:
    assert len(console_log.PATTERNS) >= 17
    meanings = {sighting.meaning for sighting in console_log.scan("\n".join(CONSOLE_LINES))}
    assert meanings == {pattern.meaning for pattern in console_log.PATTERNS}


@pytest.mark.parametrize("line", CONSOLE_LINES)
def test_a_bad_console_line_is_seen_through_colours(line: str) -> None:
    assert console_log.scan(f"ok\n\x1b[0;31m[   12.3] {line}\x1b[0m\r\nok")


def test_a_normal_boot_has_no_sighting() -> None:
    boot = (
        "[    0.000000] Linux version 6.1.0-28-cloud-amd64\n[    0.5] Freeing unused kernel image\n"
        "[  OK  ] Started haproxy.service - HAProxy Load Balancer.\nr-10-VM login: \n"
        "EXT4-fs (vda1): mounted filesystem with ordered data mode. Opts: (null). Quota mode: none.\n"
        "EXT4-fs (vda1): re-mounted. Opts: errors=remount-ro\n"
    )
    assert console_log.scan(boot) == ()
