"""Names of releases: numbers that order, and a label that tells a snapshot, a candidate or a fork apart."""

from __future__ import annotations

import re

from bundle.errors import UsageError

_NAME = re.compile(r"(\d{1,3}(?:\.\d{1,6}){1,3})(?:[-+]([A-Za-z0-9][A-Za-z0-9.+-]*))?", re.ASCII)
_EARLY = re.compile(r"(snapshot|alpha|beta|m|rc|cr)([.\d-].*)?", re.IGNORECASE)
# Beyond every number of a version.
_LAST = 10**9

Numbers = tuple[int, ...]
Span = tuple[Numbers, Numbers]


def _match(name: str) -> re.Match[str]:
    found = _NAME.fullmatch(name)
    if found is None:
        raise UsageError(
            f"invalid release {name!r} (expected for instance 4.22, 4.22.1.0 or 4.22.0.0-SNAPSHOT)"
        )
    return found


def label_of(name: str) -> str:
    """Return what follows the numbers: ``SNAPSHOT`` of ``4.22.0.0-SNAPSHOT``, ``acme`` of ``4.19.1.3-acme``.

    Raises:
        UsageError: it is no name of a release.
    """
    return _match(name)[2] or ""


def comes_before(label: str) -> bool:
    """Say whether a label names what comes before the release of the same numbers; a fork comes after it."""
    return bool(_EARLY.fullmatch(label))


def named(version: str, label: str) -> str:
    """Return version and label in one word, as CloudStack writes them."""
    return f"{version}-{label}" if label else version


def span(name: str) -> Span:
    """Return the first and last version that a name means: ``4.19`` every ``4.19.x.y``, ``4.19.2`` every ``4.19.2.x``.

    Raises:
        UsageError: it is no name of a release.
    """
    numbers = tuple(map(int, _match(name)[1].split(".")))
    missing = 4 - len(numbers)
    return numbers + (0,) * missing, numbers + (_LAST,) * missing


def spans(text: str) -> Span:
    """Return the first and last version of a range ``A..B`` with both ends, either of which may be left out.

    Raises:
        UsageError: an end is no name of a release.
    """
    first, dots, last = text.partition("..")
    low = span(first)[0] if first else (0, 0, 0, 0)
    if not dots:
        return low, span(first)[1]
    return low, span(last)[1] if last else (_LAST,) * 4


def overlap(one: Span, two: Span) -> bool:
    """Say whether two ranges have a version in common."""
    return one[0] <= two[1] and two[0] <= one[1]


def covers(whole: Span, part: Span) -> bool:
    """Say whether a range holds all of another."""
    return whole[0] <= part[0] and part[1] <= whole[1]
