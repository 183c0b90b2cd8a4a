"""What a person sees of a run on a terminal: live lines, one that remains of each step, and room for a shell."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stderr

import pytest

from harness.record import progress


class Terminal(io.StringIO):
    """Standard error that is a terminal of 80 columns."""

    def isatty(self) -> bool:
        return True

    def plain(self) -> str:
        """Return what was written, without what moves the cursor and colours."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    return Terminal()


def test_one_line_remains_of_each_step_with_its_seconds(terminal: Terminal) -> None:
    with (
        redirect_stderr(terminal),
        progress.about("S01"),
        progress.step("boot"),
        progress.step("prove [the] rules"),
    ):
        progress.say("half way\x1b]0;owned\x07")
    assert re.findall(r"✓ (\[S01\] .*?) \d\.\d s", terminal.plain()) == [
        "[S01] prove [the] rules",
        "[S01] boot",
    ]
    assert "half way\\x1b]0;owned\\x07" in terminal.plain()
    assert "\x1b]0;" not in terminal.getvalue()


def test_the_live_lines_are_away_while_a_shell_has_the_terminal(terminal: Terminal) -> None:
    with redirect_stderr(terminal), progress.step("live patch"):
        live = progress._TERMINAL._live
        assert live is not None
        with progress.away():
            before = terminal.getvalue()
            print("$ a shell", file=terminal)
            assert terminal.getvalue() == f"{before}$ a shell\n"
            assert not live.live.is_started
        assert live.live.is_started
    assert progress._TERMINAL._live is None


def test_a_step_that_fails_leaves_no_line_that_says_it_was_done(terminal: Terminal) -> None:
    with redirect_stderr(terminal), pytest.raises(OSError), progress.step("boot"):
        raise OSError("no")
    assert "✓" not in terminal.plain()
    assert progress._TERMINAL._live is None
