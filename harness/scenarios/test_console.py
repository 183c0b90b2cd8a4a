"""A console proxy: consoles show the screen behind it again, and its port and packet filter are as they were."""

from __future__ import annotations

import difflib

import pytest

from bundle import catalogue
from harness.lab.lab import NO_AGENT
from harness.lab.management_network import site_of
from harness.scenario import Lab, Traffic, Trial

_PORT_FILE = "/root/vncport"


@pytest.mark.scenario(
    "S16-console-port-answers",
    types=catalogue.load().types_that(have="console"),
    why="only a console proxy has a console port",
)
def test_the_console_answers_and_its_rules_stand_once(lab: Lab, live_patch: Trial) -> None:
    """Patched twice: the console still opens, the port file is the same, and no firewall rule stands there twice."""
    guest = live_patch.vm.guest
    look = f"cat {_PORT_FILE} && iptables -S INPUT"
    before = guest.run(look).stdout
    port, *rules = before.splitlines()
    let_in = sum(f"--dport {port} " in rule and rule.endswith("-j ACCEPT") for rule in rules)
    live_patch.require("console.let-in", "" if let_in == 1 else f"{let_in} rules let browsers in to {port}")
    _require_console(lab, live_patch, "before")
    live_patch.patch(lab.new_bundle)
    _require_console(lab, live_patch, "after")
    live_patch.disturbed()  # consoles were opened
    live_patch.patch(lab.new_bundle, forced=True)
    _require_console(lab, live_patch, "after-second")
    after = guest.run(look).stdout
    changes = "\n".join(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""))
    live_patch.require("console.rules", f"port or rules differ: {changes}" if changes else "")


def _require_console(lab: Lab, trial: Trial, when: str) -> None:
    """Require that a console opens, where there is an agent that could open it."""
    if lab.has_agent:
        trial.require(f"console.{when}", _console(trial))
    else:
        trial.skip(f"console.{when}", NO_AGENT)


def _console(trial: Trial) -> str:
    """Open consoles for a moment, once the VM agent is there; return what is wrong, or nothing."""
    site = site_of(trial.vm)
    if site is None:
        return "nobody plays the management network"
    site.connected()
    with Traffic(trial.probes()) as traffic:
        trial.vm.guest.run("sleep 2")
    results = [result for result in traffic.results if result.name.startswith("console")]
    if not results:
        return "nobody asked for a console"
    (result,) = results
    opened = result.sent - result.lost
    return (
        "" if opened and opened >= result.sent - 1 else f"{opened} of {result.sent} opened: {result.reason}"
    )
