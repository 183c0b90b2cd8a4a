"""Progress for people: a live line on a terminal, one line a step elsewhere. Goes to standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Step(Protocol):
    """A step that is under way."""

    def note(self, line: str) -> None:
        """Show what it does right now, where there is a place for that."""


class Progress(Protocol):
    """Tells about steps."""

    def step(self, text: str) -> AbstractContextManager[Step]:
        """Announce a step; it lasts as long as the context."""


class _Nothing:
    def note(self, line: str) -> None:
        """Say nothing."""


class Silent:
    """No progress at all."""

    @contextmanager
    def step(self, text: str) -> Iterator[Step]:  # noqa: ARG002 - the protocol's name
        """Say nothing."""
        yield _Nothing()


class Lines:
    """One line when a step ends."""

    @contextmanager
    def step(self, text: str) -> Iterator[Step]:
        """Print the step and its seconds when it has ended well."""
        start = time.monotonic()
        yield _Nothing()
        print(f"image: {text}: {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)


class Terminal:
    """A spinner with what happens right now; one line remains of each step."""

    @contextmanager
    def step(self, text: str) -> Iterator[Step]:
        """Show the step while it lasts."""
        from rich.console import Console
        from rich.markup import escape

        console = Console(stderr=True)
        start = time.monotonic()
        with console.status(escape(text)) as status:

            class _Live:
                def note(self, line: str) -> None:
                    width = max(10, console.width - len(text) - 8)
                    status.update(f"{escape(text)} [dim]{escape(line[:width])}[/dim]")

            yield _Live()
        console.print(f"[green]✓[/green] {escape(text)} [dim]{time.monotonic() - start:.1f} s[/dim]")


def for_stream() -> Progress:
    """Return what suits standard error."""
    return Terminal() if sys.stderr.isatty() else Lines()
