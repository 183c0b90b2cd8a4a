"""Scenarios that only take time: they stand in for work on VMs where hosts and their scheduler are what is tried."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bundle.errors import InfrastructureError
from harness.plugin.options import seed_of
from harness.plugin.session import run_of

# So many processes have to be at work before a scenario ends, so that none is too quick for the others to begin.
SEATS = int(os.environ.get("STAND_IN_SEATS", "1"))
PATIENCE = 60.0
SECONDS = float(os.environ.get("STAND_IN_SECONDS", "0.2"))
NOTES = Path(os.environ.get("STAND_IN_NOTES", os.devnull))
# While this file is there only one scenario of the run comes to its end: whoever wants to break a run off has the time.
HOLD = NOTES.with_name("hold")


@pytest.fixture(scope="session")
def golden(request, system_vm_cell):
    """What takes the place of the golden snapshot: its event, on which other hosts wait."""
    run_of(request.config).events.emit("golden", key="")
    return system_vm_cell


@pytest.mark.parametrize("number", range(12))
@pytest.mark.scenario("sleep")
def test_takes_its_time(golden, number, request):
    """It takes its time."""
    run = run_of(request.config)
    log = run.results.log(f"{golden}-sleep-{number}/console.log")
    log.write_text("slept\n")
    meet(f"{seed_of(request.config)} {os.getpid()}")
    time.sleep(SECONDS)
    hold()


def hold():
    """Wait as long as the run is held, unless nobody else has ended yet."""
    end = time.monotonic() + PATIENCE
    try:
        HOLD.rename(HOLD.with_name("held"))
    except FileNotFoundError:
        while HOLD.with_name("held").exists() and time.monotonic() < end:
            time.sleep(0.02)


def meet(name):
    """Note that this process is at work, and wait for the others of the run."""
    with NOTES.open("a") as file:
        file.write(f"{name}\n")
    run, end = name.split()[0], time.monotonic() + PATIENCE
    while (
        SEATS > 1 and len({line for line in NOTES.read_text().splitlines() if line.startswith(run)}) < SEATS
    ):
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.scenario("finding")
def test_is_found_wrong(golden):
    """It fails by itself, wherever it is made."""
    pytest.fail("1 is not 2", pytrace=False)


@pytest.mark.scenario("poor-host")
def test_needs_a_good_host(golden):
    """It fails on a host that has too little for it."""
    if os.environ.get("STAND_IN_POOR"):
        raise InfrastructureError("too little of everything")


@pytest.mark.scenario("elsewhere", types=("vpcrouter",), why="it is about VPCs")
def test_is_about_another_type(golden):
    """It is skipped."""
