"""Many VMs at once, by the command that a person types: one hangs, one fails, and the totals still add up."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest

from harness.kvmagent import patch
from harness.lab import faults
from harness.management import health
from harness.scenario import Lab, SystemVm, Trial

# Seconds that one VM may take: a healthy patch needs far less, also under emulation beside two others.
_LIMITS = {"kvm": 45.0, "qemu": 100.0}
# What systemd is asked to do with a service, in whatever words a script has for it.
_ACTING = "@(restart|reload|try-|start|reload-or-restart)*"


@pytest.mark.scenario("S32-one-hangs-one-fails", companions=2)
def test_of_many_vms_one_hangs_and_one_fails(lab: Lab, live_patch: Trial) -> None:
    """Three VMs at once: one is patched, one fails, one hangs until its limit; and a threshold stops the rest."""
    limit = _LIMITS[lab.engine.accelerator.domain_type]
    files = live_patch.files(lab.new_bundle)
    seen: dict[str, Any] = {}
    with ExitStack() as stack:
        failing, hanging = (lab.restore(f"S32-{name}", reserved=True) for name in ("failing", "hanging"))
        for vm in (failing, hanging):
            stack.callback(vm.stop)
        services = health.active_services(failing.guest)
        hanging.machine.pause()
        vms = [live_patch.vm, failing, hanging]

        def act() -> None:
            with _one_restart_fails(failing):
                seen.update(_patch(lab, vms, "--workers", "3", "--deadline", str(limit)))

        live_patch.watch(files, act)
        words = [row["word"] for row in seen["vms"]]
        right = words == ["patched", "failed", "timed out"]
        live_patch.require("fleet.words", "" if right else f"the three VMs ended as {', '.join(words)}")
        total = sum(seen["totals"].values())
        live_patch.require("fleet.totals", "" if total == len(vms) else f"the totals add up to {total}")
        details = seen["vms"][1]["details"]
        named = any(service in details for service in services)
        live_patch.require("fleet.reason", "" if named else f"no service is named in {details!r}")
        with _one_restart_fails(failing):
            stopped = _patch(lab, [failing, hanging], "--max-failures", "1")
        words = [row["word"] for row in stopped["vms"]]
        right = words == ["failed", "not started"]
        live_patch.require("fleet.threshold", "" if right else f"the two VMs ended as {', '.join(words)}")
        healthy = patch.ask_versions(live_patch.vm.guest).scripts
        live_patch.require("fleet.healthy", "" if healthy == files.signature else "it is not patched")


def _one_restart_fails(vm: SystemVm) -> AbstractContextManager[object]:
    """Let one restart of a service fail, so that it is the patch that fails, by its own word."""
    return faults.begin("program.broken", vm, names=["systemctl"], deed="fails", words=_ACTING, last=1)


def _patch(lab: Lab, vms: list[SystemVm], *options: str) -> dict[str, Any]:
    """Run ``sysvm patch`` on VMs and return its summary."""
    where = [word for vm in vms for word in ("--ssh", f"127.0.0.1:{vm.guest.port}")]
    command = [
        sys.executable, "-c", "from harness.cli import main; main()", "patch", *where,
        "--trust-first", "--ssh-key", str(lab.golden.ssh_key), "--bundle", str(lab.new_bundle), "--json", *options,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 1:
        raise AssertionError(f"sysvm patch ended with {done.returncode}, not 1: {done.stderr[-400:]}")
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary
