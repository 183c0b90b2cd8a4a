"""What a scenario causes on purpose is told by whole lines: a word of it in another line excuses nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.lab.expected_lines import FAILING_DISK, of_broken_off_start, of_failing_service
from tests.unit.harness.simulated_patch import world

ON_PURPOSE = {
    "systemd: haproxy.service: Main process exited, code=killed, status=9/KILL (warning)": "haproxy",
    "systemd: haproxy.service: Failed with result 'signal'. (warning)": "haproxy",
    "systemd: Reload failed for haproxy.service - HAProxy Load Balancer. (error)": "haproxy",
    "systemd: Reload failed for HAProxy Load Balancer. (error)": "haproxy",
    "systemd: Failed to start The Apache HTTP Server. (error)": "apache2",
    "[FAILED] Failed to start apache2.service - The Apache HTTP Server.": "apache2",
    "apachectl: AH00526: Syntax error on line 3 (error)": "apache2",
    "dnsmasq: bad option at line 1 of /etc/dnsmasq.d/cloud.conf (critical)": "dnsmasq",
    "(_run.sh): cloud.service: Failed at step EXEC spawning _run.sh: No file (error)": "cloud",
    "systemd: cloud.service: Failed with result 'signal'. (warning)": "cloud",
}
OTHERS = {
    "kernel: haproxy[91]: segfault at 0 ip 0000 (error)": "haproxy",
    "kernel: Out of memory: Killed process 91 (haproxy) (error)": "haproxy",
    "cron: haproxy is not what it was (error)": "haproxy",
    "systemd: haproxy.service: Unit configuration has fatal error (error)": "haproxy",
    "systemd: Failed to start ssh.service - OpenBSD Secure Shell server. (error)": "haproxy",
}


@pytest.mark.parametrize(("line", "service"), ON_PURPOSE.items())
def test_lines_of_a_service_that_fails_are_known(line, service):
    assert replace(world().case(), trouble=of_failing_service(service)).is_on_purpose(line)


@pytest.mark.parametrize(("line", "service"), OTHERS.items())
def test_lines_of_others_that_have_its_name_are_not_excused(line, service):
    assert not replace(world().case(), trouble=of_failing_service(service)).is_on_purpose(line)


def test_lines_of_a_disk_that_fails_are_the_kernels():
    case = replace(world().case(), trouble=FAILING_DISK)
    assert case.is_on_purpose("kernel: EXT4-fs error (device vda1): ext4_journal_check_start (critical)")
    assert case.is_on_purpose("[   33.120000] Buffer I/O error on dev vda1, logical block 12")
    assert not case.is_on_purpose("apache2: I/O error (error)")


def test_a_start_that_ends_with_its_run_is_no_failure_of_its_service():
    case = replace(world().case(), trouble=of_broken_off_start(["haproxy", "apache2"]))
    said = "Control process exited, code=killed, status=15/TERM (warning)"
    assert case.is_on_purpose(f"systemd: haproxy.service: {said}")
    assert case.is_on_purpose("systemd: apache2.service: Failed with result 'signal'. (warning)")
    assert not case.is_on_purpose(f"systemd: ssh.service: {said}")
    assert not case.is_on_purpose("systemd: haproxy.service: Failed with result 'exit-code'. (warning)")
    assert of_broken_off_start([]) == ()
