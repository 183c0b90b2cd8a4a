"""The serial form of a management server's objects: keys, nulls, and what is not there yet in older releases."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

# A release whose number has two parts only means the newest one of that branch.
_NEWEST = 999

# What the router of a pair that leads is called: today, and by servers and routers up to 4.15.2.
FIRST_WORDS = ("PRIMARY", "MASTER")


def reaches(release: str, first: tuple[str, ...]) -> bool:
    """Say whether a release has what came with some releases, one of each branch that got it.

    Args:
        release: such as ``4.22``, which is the newest of its branch, or ``4.20.1``.
        first: the first release with it; further ones where older branches got it afterwards.
    """
    number = _number(release)
    numbers = sorted(map(_number, first))
    for one in numbers:
        if one[:2] == number[:2]:
            return number >= one
    return not numbers or number >= numbers[-1]


def first_word(release: str) -> str:
    """Return what a server calls the router of a pair that begins, or leads: another word since 4.16.0."""
    return FIRST_WORDS[not reaches(release, ("4.16.0",))]


def _number(release: str) -> tuple[int, ...]:
    parts = [int(part) for part in re.findall(r"\d+", release)[:3]]
    return tuple(parts + [_NEWEST] * (3 - len(parts)))


def since(*releases: str) -> Any:
    """Return a field that came with a release and may be missing."""
    return field(default=None, metadata={"since": releases})


@dataclass(frozen=True, kw_only=True)
class WireObject:
    """An object of a message."""

    def wire(self, release: str) -> dict[str, Any]:
        """Return the object as the server of a release serialises it."""
        found = {}
        for key in fields(self):
            value = getattr(self, key.name)
            if value is not None and reaches(release, key.metadata.get("since", ())):
                found[key.name] = _plain(value, release)
        return found


def _plain(value: object, release: str) -> object:
    if isinstance(value, WireObject):
        return value.wire(release)
    if isinstance(value, tuple):
        return [_plain(item, release) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


@dataclass(frozen=True, kw_only=True)
class Message(WireObject):
    """One message: ``STEM`` names its file, ``TYPE`` is the value of its key ``type``, ``SINCE`` its first releases."""

    STEM: ClassVar[str]
    TYPE: ClassVar[str]
    SINCE: ClassVar[tuple[str, ...]] = ()
