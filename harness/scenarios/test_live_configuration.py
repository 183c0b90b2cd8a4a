"""What boot, rules and operators wrote into the VM is still there afterwards: live configuration, sshd's reach."""

from __future__ import annotations

import shlex

import pytest

from bundle import catalogue
from harness import agent
from harness.agent import PatchAnswer
from harness.guest import Guest, GuestError
from harness.lab import Lab
from harness.topology import SSH_PORT
from harness.trial import Trial


@pytest.mark.scenario("S08-live-config-kept")
def test_keeps_live_configuration_that_was_changed_by_hand(lab: Lab, live_patch: Trial) -> None:
    """Every live file, changed by hand before the patch, is the same right after it, before any rule is sent."""
    guest = live_patch.vm.guest
    files = live_patch.files(lab.new_bundle)
    live = " ".join(shlex.quote(f"/{path}") for path in catalogue.load().live_paths if not path.endswith("/"))
    add = 'grep -q . "$f" && echo \'# changed by hand\' >>"$f"'
    guest.run(f"for f in {live}; do [ ! -f $f ] || {add}; done; true")
    digests = f"sha256sum {live} 2>/dev/null; true"
    before = guest.run(digests).stdout
    after = ""

    def act() -> PatchAnswer:
        nonlocal after
        answer = agent.patch(guest, files)
        after = guest.run(digests).stdout
        return answer

    live_patch.require("live.there", "" if before else "the VM has no live configuration at all")
    live_patch.watch(files, act)
    differ = sorted(set(before.splitlines()) ^ set(after.splitlines()))
    live_patch.require("live.same", f"changed: {', '.join(line[66:] for line in differ)}" if differ else "")


@pytest.mark.scenario("S24-sshd-on-control-address-only")
def test_sshd_stays_on_the_control_address(lab: Lab, live_patch: Trial) -> None:
    """Also after its restart, sshd answers on the control address, takes the next login, and is shut to tenants."""
    vm = live_patch.vm
    live_patch.require("sshd.closed-before", _open_to_tenants(live_patch))
    live_patch.patch(lab.new_bundle)
    vm.guest.run("systemctl restart ssh.service")
    login = Guest(vm.name, "127.0.0.1", vm.guest.port, lab.golden.ssh_key)
    try:
        login.connect(deadline=30)
        listening = login.run(f"ss -ltnH sport = :{SSH_PORT}").stdout.split("\n")
        reason = ""
    except GuestError as error:
        listening, reason = [], str(error)
    finally:
        login.close()
    live_patch.require("sshd.next-login", reason)
    own = [line.split()[3] for line in listening if line]
    wrong = [address for address in own if address != f"{vm.topology.control.address}:{SSH_PORT}"]
    live_patch.require("sshd.after-restart", f"it listens on {', '.join(wrong)}" if wrong else "")
    live_patch.require("sshd.closed-after", _open_to_tenants(live_patch))


def _open_to_tenants(trial: Trial) -> str:
    """Return which of the VM's addresses lets a tenant connect to its SSH port, or nothing."""
    for nic in trial.vm.topology.nics:
        for tenant in trial.vm.tenants.values():
            done = tenant.run(f"nc -w 3 {nic.address} {SSH_PORT} </dev/null", check=False)
            if "SSH-" in done.stdout:
                return f"{tenant.name} reaches sshd on {nic.address}"
    return ""
