"""Progress for people, on standard error: live lines on a terminal, one line a step elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bundle.sink import escape as safe
from bundle.sink import tell
from harness.record.events import EventLog
from harness.record.steps import Progress, Quiet, Step

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Live


class PlainProgress:
    """A progress of plain lines: each step and its seconds, once it has ended well."""

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Print the step when it has ended."""
        started = time.monotonic()
        yield Quiet()
        plain(f"{title}: {time.monotonic() - started:.1f} s")


@dataclass
class _LiveStep:
    """A step's live line."""

    live: Live
    task: int
    title: str
    width: int

    def note(self, line: str) -> None:
        """Show the beginning of a line behind the step's title."""
        from rich.markup import escape
        from rich.progress import TaskID

        room = max(10, self.width - len(self.title) - 16)
        text = f"{escape(self.title)} [dim]{escape(safe(line[:room]))}[/dim]"
        self.live.update(TaskID(self.task), description=text)


@dataclass
class LiveProgress:
    """A progress with a live line for every step that is under way; one line remains of each."""

    _live: Live | None = field(default=None, init=False)
    _open: int = field(default=0, init=False)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show the step while it lasts; steps may lie within each other."""
        from rich.markup import escape

        live = self._live or self._begin()
        self._open += 1
        started = time.monotonic()
        task = live.add_task(escape(title), total=None)
        try:
            yield _LiveStep(live, task, title, live.console.width)
            live.console.print(
                f"[green]✓[/green] {escape(title)} [dim]{time.monotonic() - started:.1f} s[/dim]"
            )
        finally:
            live.remove_task(task)
            self._open -= 1
            if not self._open:
                live.stop()
                self._live = None

    @contextmanager
    def away(self) -> Iterator[None]:
        """Take the live lines away for a while: the terminal is somebody else's."""
        live = self._live
        if live is not None:
            live.stop()
        try:
            yield
        finally:
            if live is not None and live is self._live:
                live.start()

    def say(self, line: str) -> None:
        """Print a line above the live ones."""
        if self._live is not None:
            self._live.console.print(safe(line), markup=False, highlight=False, soft_wrap=True)
        else:
            tell(line, err=True)

    def _begin(self) -> Live:
        from rich.console import Console
        from rich.progress import Progress as Live
        from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

        console: Console = Console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._live = Live(*columns, console=console, transient=True)
        self._live.start()
        return self._live


_TERMINAL, _LINES = LiveProgress(), PlainProgress()


def shown() -> Progress:
    """Return what suits standard error."""
    return _TERMINAL if sys.stderr.isatty() else _LINES


_ABOUT: list[str] = []


@contextmanager
def about(name: str) -> Iterator[None]:
    """Begin every line of a while with a name in brackets: that of the scenario, for several run side by side."""
    _ABOUT.append(name)
    try:
        yield
    finally:
        _ABOUT.pop()


def _named(text: str) -> str:
    return f"[{_ABOUT[-1]}] {text}" if _ABOUT else text


def step(title: str) -> AbstractContextManager[Step]:
    """Announce a step, and say how long it took."""
    return shown().step(_named(title))


def say(line: str) -> None:
    """Print one plain line on standard error."""
    plain(_named(line))


def away() -> AbstractContextManager[None]:
    """Give the terminal to somebody else for a while, such as a shell in a VM."""
    return _TERMINAL.away()


def plain(text: str) -> None:
    """Print one line on standard error that is about no scenario, or says itself about which."""
    if sys.stderr.isatty():
        _TERMINAL.say(text)
    else:
        tell(text, err=True)


@dataclass
class Narrator:
    """A story that a person and the event log are told alike."""

    events: EventLog

    @contextmanager
    def step(self, title: str, vm: str = "") -> Iterator[None]:
        """Announce, time and record one step; ``vm`` is the VM that it is about, if it is about one."""
        fields = {"vm": vm} if vm else {}
        with self.events.step(title, **fields), step(f"{vm}: {title}" if vm else title):
            yield
