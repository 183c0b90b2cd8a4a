"""What the commands say, and how a run is shown, changes on purpose only: ``python -m tests.recorded`` records anew."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import recorded

ROOT = Path(__file__).parents[2]


def test_every_command_explains_itself_as_recorded() -> None:
    # In a process of its own: click keeps the help option of a command as whoever called it first had it.
    program = "from tests.recorded import helps; print(helps(), end='')"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == recorded.HELP.read_text(encoding="utf-8"), recorded.__doc__


VIEWS = recorded.views()


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_a_recorded_run_is_shown_as_recorded(name: str) -> None:
    assert VIEWS[name] == (recorded.RUN.folder / name).read_text(encoding="utf-8"), recorded.__doc__


def test_a_recorded_run_has_every_kind_of_event_of_a_patch() -> None:
    assert {"patch", "check", "probe", "services", "rules", "run_finished"} <= set(
        recorded.fields(recorded.RUN.events)
    )
