"""Steps of long work, as those see them who do it: whom to tell, and nobody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Step(Protocol):
    """A step that is under way."""

    def note(self, line: str) -> None:
        """Show what it does right now, where there is a place for that."""


class Progress(Protocol):
    """A teller of steps."""

    def step(self, title: str) -> AbstractContextManager[Step]:
        """Announce a step; it lasts as long as the context."""


class Quiet:
    """A step of which only the end is told."""

    def note(self, line: str) -> None:
        """Say nothing."""


class Silent:
    """A progress that tells nothing."""

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:  # noqa: ARG002 - the protocol's name
        """Say nothing."""
        yield Quiet()
