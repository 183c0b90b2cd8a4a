"""libvirt's daemon vanishes: machines outlive it, and whoever was talking to it says so in one line.

The daemon that is killed is that of another host (``tests.other_host``): nobody else's machines are touched.
"""

from __future__ import annotations

import re

from harness.host import wait


def test_engine_finds_a_kept_vm_again_when_the_daemon_had_crashed(lab, other_host):
    status, _, errors = other_host.sysvm("vm", "start", "--name", "stays")
    assert status == 0, errors
    try:
        other_host.kill_daemon()
        assert other_host.guests()
        assert other_host.sysvm("vm", "exec", "stays", "echo there") == (0, "there\n", "")
        status, listed, errors = other_host.sysvm("vm", "list")
        assert (status, errors) == (0, "")
        assert re.search(r"stays.*running", listed)
    finally:
        status, _, errors = other_host.sysvm("vm", "stop", "stays")
    assert (status, errors) == (0, "")
    assert not other_host.guests()


def test_engine_says_in_one_line_that_the_daemon_has_vanished(lab, other_host):
    run = other_host.popen("run", "--scenario", "live-patch", "--workers", "0")
    wait.until(lambda: other_host.guests() and other_host.daemon(), "a machine of the run", 120.0)
    other_host.kill_daemon()
    output, errors = run.communicate(timeout=300)
    assert run.returncode in (1, 3), output
    assert "Traceback" not in errors
    assert "libvirt" in output + errors
    assert other_host.sysvm("vm", "list")[0] == 0
    assert not other_host.guests()
