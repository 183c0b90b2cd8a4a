"""Every system VM type boots from its cmdline, serves what CloudStack says it serves, and leaves nothing behind."""

from __future__ import annotations

import json

import pytest

from bundle import catalogue
from harness.guest.testinfra_backend import host_of
from harness.kept.listing import find

PORTS = {"apache2": {80}, "dnsmasq": {53}, "portmap": {111}}
# Debian masks it: the word is in CloudStack's list, and never becomes a running service.
MASKED = {"nfs-common"}


@pytest.mark.parametrize("vm_type", tuple(catalogue.load().types))
def test_type_boots_and_serves(sysvm, nothing_left, vm_type):
    started = sysvm("vm", "start", "--type", vm_type, "--name", f"e2e-{vm_type}", "--json")
    assert started.returncode == 0, started.stderr + started.stdout
    try:
        kept = find(f"e2e-{vm_type}")
        assert json.loads(started.stdout)["vm_type"] == vm_type
        listed = json.loads(sysvm("vm", "list", "--json").stdout)
        assert [row["running"] for row in listed if row["name"] == kept.name] == [True]
        with kept.guest() as guest:
            examine(host_of(guest), vm_type)
        assert sysvm("vm", "exec", kept.name, "exit 7").returncode == 7
    finally:
        stopped = sysvm("vm", "stop", f"e2e-{vm_type}")
    assert stopped.returncode == 0, stopped.stderr


def examine(host, vm_type):
    """Assert with testinfra what a type promises."""
    words = catalogue.load().services[vm_type]
    assert host.file("/var/cache/cloud/enabled_svcs").content_string.split() == list(words.enabled)
    assert host.file("/var/cache/cloud/disabled_svcs").content_string.split() == list(words.disabled)
    listening = {
        int(name.rsplit(":", 1)[1]) for name in host.socket.get_listening_sockets() if "p://" in name
    }
    for word in words.enabled:
        assert host.service(word).is_running == (word not in MASKED), word
        assert PORTS.get(word, set()) <= listening, word
    assert host.file("/var/cache/cloud/boot_up_done").exists
    assert host.check_output("systemctl --failed --no-legend") == ""
    assert host.file("/root/.ssh/authorized_keys").mode == 0o600
    assert host.file("/root").mode == 0o700
    signature = host.file("/var/cache/cloud/cloud-scripts-signature").content_string.strip()
    assert signature == host.check_output("md5sum /usr/share/cloud/cloud-scripts.tgz").split()[0]
    agent = host.file("/usr/local/cloud/systemvm/_run.sh")
    assert agent.exists == ("agent" in catalogue.vm_type(vm_type).has)
    unrendered = host.run(
        r"grep -rlE '\$\{|%\(' /etc/haproxy /etc/dnsmasq.d /etc/apache2/sites-enabled /etc/iptables"
    )
    assert unrendered.stdout == ""
    ssh = {s for s in host.socket.get_listening_sockets() if s.endswith(":3922")}
    assert len(ssh) == 1
    assert all(s.startswith("tcp://169.254.") for s in ssh)
