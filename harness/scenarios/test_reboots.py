"""VMs that reboot without a server: nobody hands them a command line, files, or rules.

To the host a guest that reboots itself never stopped, so that no server learns of it.
"""

from __future__ import annotations

import re

import pytest

from bundle import catalogue
from harness.checks import Outcome
from harness.lab.boots import COMES_UP
from harness.lab.faults import power
from harness.observe import observation
from harness.scenario import Lab, Trial
from harness.traffic import proofs
from harness.vm.boot import CMDLINE_FILE
from harness.vm.restart import RebootFailed

# Seconds for the first answers after the boot; what is not in force then stays so until somebody sends it.
_PATIENCE = 10.0


@pytest.mark.scenario(
    "S63-reboots-by-itself",
    types=catalogue.load().types_that(have="machines"),
    why="only routers are sent rules of machines",
)
def test_a_router_that_reboots_by_itself_serves_its_network(lab: Lab, live_patch: Trial) -> None:
    """Patched, then rebooted from within: its rules are in force again, although nobody sends them."""
    assert lab.network is not None  # noqa: S101 - a type with machines has a network
    answer = live_patch.patch(lab.new_bundle)
    live_patch.require("patch.ran", "" if answer.patched else f"it did not run: {answer.details}")
    if not _comes_up(live_patch):
        return
    answers = proofs.prove(live_patch.vm, lab.network, deadline=_PATIENCE)
    lost = [one for one in answers if one.reason]
    if not answers:
        live_patch.note([Outcome("reboot.in-force", "error", "there is nothing that could be asked")])
        return
    live_patch.require(
        "reboot.in-force",
        f"{len(lost)} of {len(answers)} requests through its rules fail, and no server sends them again: "
        f"{lost[0].name}: {lost[0].reason}"
        if lost
        else "",
    )


@pytest.mark.scenario(
    "S64-old-command-line",
    types=catalogue.load().types_that(have="console"),
    why="only console proxies are handed the port of their console",
)
def test_a_console_proxy_of_an_old_server_reboots_after_its_patch(lab: Lab, live_patch: Trial) -> None:
    """Started by a server before 4.18, which named no console port; patched and rebooted from within: it is shut."""
    if "vncport" in lab.new.unsent:
        pytest.skip(f"{lab.new.name} does not know of the port of the console")
    guest = live_patch.vm.guest
    answer = live_patch.patch(lab.new_bundle)
    live_patch.require("patch.ran", "" if answer.patched else f"it did not run: {answer.details}")
    before = observation.observe(guest)
    cmdline = re.sub(r" vncport=\d+", "", guest.run(f"cat {CMDLINE_FILE}").stdout)
    guest.put(cmdline.encode(), CMDLINE_FILE, mode=0o600)
    # Twice: a file of rules that the first boot has spoilt is what the second one begins with.
    if not (_comes_up(live_patch) and _comes_up(live_patch)):
        return
    old, new = (seen.rules["iptables"].lines or () for seen in (before, observation.observe(guest)))
    if not old:
        unseen = "the packet filter could not be read before the reboots"
        live_patch.note([Outcome("reboot.packet-filter", "error", unseen)])
        return
    lost = [line for line in old if line not in new]
    live_patch.require(
        "reboot.packet-filter",
        f"{len(lost)} of {len(old)} lines of the packet filter are not there after two boots: {lost[0]}"
        if lost
        else "",
    )


def _comes_up(live_patch: Trial) -> bool:
    """Let a VM reboot by itself; return whether it came up, which is a check."""
    try:
        power.reboot(live_patch.vm)
    except RebootFailed as error:
        live_patch.require(COMES_UP, str(error))
        return False
    live_patch.require(COMES_UP, "")
    return True
