"""Units that a person means: words such as ``zone=Z1``, ``kind=VPC`` or a name, with the wildcards of a shell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from bundle.errors import UsageError
from harness.rollout.units import PatchUnit

_FIELDS: dict[str, Callable[[PatchUnit], Iterable[str]]] = {
    "account": lambda unit: (unit.account,),
    "domain": lambda unit: (unit.domain,),
    "host": lambda unit: (word for member in unit.members for word in (member.host, member.host_name)),
    "id": lambda unit: (unit.id,),
    "kind": lambda unit: (unit.kind, unit.kind.replace(" ", "-")),
    "name": lambda unit: (unit.name,),
    "project": lambda unit: (unit.project,),
    "template": lambda unit: (member.template for member in unit.members),
    "vm": lambda unit: (word for member in unit.members for word in (member.name, member.id)),
    "zone": lambda unit: (unit.zone_name, unit.zone),
}
_ANY = ("name", "id", "vm")


def matches(unit: PatchUnit, words: Sequence[str]) -> bool:
    """Say whether one of the words means a unit."""
    return any(_matches(unit, word) for word in words)


def _matches(unit: PatchUnit, word: str) -> bool:
    name, equals, pattern = word.partition("=")
    names = (name,) if equals else _ANY
    wanted = (pattern if equals else word).lower()
    values = (value.lower() for field in names for value in _FIELDS[field](unit) if value)
    return any(fnmatchcase(value, wanted) for value in values)


def read_words(said: Sequence[str]) -> tuple[str, ...]:
    """Return the words of an option that may be given several times; ``@FILE`` stands for the lines of a file.

    Raises:
        UsageError: a file cannot be read, or a word names a field that units do not have.
    """
    words: list[str] = []
    for word in said:
        words += _lines(word) if word.startswith("@") else [word]
    for word in words:
        name, equals, _ = word.partition("=")
        if equals and name not in _FIELDS:
            raise UsageError(
                f"{word!r}: units have no {name!r}", hint=f"they have {', '.join(sorted(_FIELDS))}"
            )
    return tuple(words)


def _lines(word: str) -> list[str]:
    try:
        text = Path(word[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{word[1:]}: {getattr(error, 'strerror', None) or 'no text in UTF-8'}") from None
    found = (line.split("#")[0].strip() for line in text.splitlines())
    return [line for line in found if line]


def unmatched(units: Iterable[PatchUnit], words: Sequence[str]) -> tuple[str, ...]:
    """Return the words that mean no unit at all: most likely typing errors."""
    every = tuple(units)
    return tuple(word for word in words if not any(_matches(unit, word) for unit in every))
