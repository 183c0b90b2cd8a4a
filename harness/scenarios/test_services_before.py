"""Faults from before the patch: services that were down, a list that is missing, units that had failed already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bundle import catalogue
from harness.kvmagent import patch
from harness.observe import observation
from harness.scenario import Lab, SshGuest, Trial

_FACTS = catalogue.load()
_LOG = "/var/log/livepatchsystemvm.log"


@pytest.mark.scenario(
    "S29-dead-service-stays-dead",
    types=tuple(name for name in _FACTS.types if _FACTS.services_of(name)[0].enabled != ("cloud",)),
    why="its one service is the agent, which has to be up for a patch",
)
def test_a_service_that_was_down_before_is_reported_and_left(lab: Lab, live_patch: Trial) -> None:
    """A service that was down before the patch: still down after it, named in the log, and nobody is blamed."""
    live_patch.brief = True
    guest = live_patch.vm.guest
    services = observation.observe(guest).services
    up = [word for word in services.enabled or () if (row := services.get(word)) and row.is_active]
    word = "apache2" if "apache2" in up else up[0]
    unit = services.get(word)
    assert unit is not None  # noqa: S101 - it is up
    files = live_patch.files(lab.new_bundle)
    state = ""

    def act() -> patch.PatchAnswer:
        nonlocal state
        answer = patch.patch(guest, files)
        state = guest.run(f"systemctl is-active {unit.name}", check=False).stdout.strip()
        return answer

    with _down(guest, unit.name):
        live_patch.watch(files, act)
    live_patch.require("dead.left", "" if state == "inactive" else f"{word} was inactive and is {state}")
    told = guest.run(f"grep -c 'service {word} was .* before the patch' {_LOG}", check=False).stdout.strip()
    live_patch.require("dead.reported", "" if told == "1" else f"{_LOG} does not say that {word} was down")
    live_patch.prove_rules()


@contextmanager
def _down(guest: SshGuest, unit: str) -> Iterator[None]:
    """Keep a service down, and cron as well: each third minute it runs a monitor that starts what is down."""
    cron = guest.run("systemctl is-active --quiet cron.service", check=False).status == 0
    held = f"{unit} cron.service" if cron else unit
    # A job that cron began lives on; the brackets keep the search from finding itself.
    guest.run(
        "systemctl stop cron.service; while pgrep -f '[m]onitorServices'; do sleep 0.1; done", deadline=60
    )
    guest.run(f"systemctl stop {unit}")
    try:
        yield
    finally:
        guest.run(f"systemctl start {held}")


@pytest.mark.scenario("S37-failed-before-not-blamed")
def test_what_had_failed_before_is_not_blamed_on_the_patch(lab: Lab, live_patch: Trial) -> None:
    """A unit that had failed before the patch: reported as that, and the patch is judged by what it did."""
    live_patch.brief = True
    guest = live_patch.vm.guest
    guest.run("systemd-run --quiet --unit=failed-before.service /bin/false; sleep 0.1")
    guest.run("until systemctl is-failed --quiet failed-before.service; do sleep 0.1; done", deadline=30)
    live_patch.patch(lab.new_bundle)
    before, after = live_patch.cases[-1].before.services.failed, live_patch.cases[-1].after.services.failed
    seen = "failed-before.service" in before
    live_patch.require("failed.seen-before", "" if seen else "the observation before missed the failed unit")
    live_patch.require("failed.same", "" if before == after else f"failed now: {', '.join(sorted(after))}")
