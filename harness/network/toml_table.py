"""Reads TOML tables so that every mistake ends in one line with the table, the key and the value."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from bundle.errors import UsageError

T = TypeVar("T")
C = TypeVar("C", bound=str)


class Table:
    """One table; what was read is remembered, so that :meth:`finish` can name keys that mean nothing."""

    def __init__(self, values: dict[str, Any], where: str) -> None:
        """Wrap a parsed table; ``where`` is how messages call it."""
        self._values = values
        self._where = where
        self._read: set[str] = set()

    def has(self, key: str) -> bool:
        """Return whether a key is there."""
        return key in self._values

    def text(self, key: str, pattern: re.Pattern[str] | None = None, default: str | None = None) -> str:
        """Return a string that matches a pattern."""
        value = self._get(key, default)
        if not isinstance(value, str) or (pattern and not pattern.fullmatch(value)):
            raise self.error(f"invalid {key} {value!r}")
        return value

    def choice(self, key: str, allowed: Sequence[C], default: C | None = None) -> C:
        """Return one of a few words."""
        value = self._get(key, default)
        for word in allowed:
            if value == word:
                return word
        raise self.error(f"invalid {key} {value!r} (expected one of {', '.join(allowed)})")

    def flag(self, key: str, default: bool = False) -> bool:
        """Return true or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.error(f"invalid {key} {value!r} (expected true or false)")
        return value

    def value(self, key: str, read: Callable[[Any], T]) -> T:
        """Return what ``read`` makes of a value; its ValueError becomes the message."""
        return self._convert(key, self._get(key, None), read)

    def optional(self, key: str, read: Callable[[Any], T]) -> T | None:
        """Return what ``read`` makes of a value, or None when the key is not there."""
        self._read.add(key)
        return self.value(key, read) if self.has(key) else None

    def items(self, key: str, read: Callable[[Any], T], default: list[str] | None = None) -> Iterator[T]:
        """Yield what ``read`` makes of each item of a list."""
        values = self._get(key, default)
        if not isinstance(values, list):
            raise self.error(f"invalid {key} {values!r} (expected a list)")
        for value in values:
            yield self._convert(key, value, read)

    def table(self, key: str) -> Table | None:
        """Return a table below this one, or None when it is not there."""
        self._read.add(key)
        values = self._values.get(key)
        if values is None:
            return None
        if not isinstance(values, dict):
            raise self.error(f"invalid {key} {values!r} (expected a table)")
        return Table(values, f"{self._where}: [{key}]")

    def tables(self, key: str) -> Iterator[Table]:
        """Yield the tables of a list of tables; unknown keys of each are refused once it was read."""
        self._read.add(key)
        rows = self._values.get(key, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self.error(f"invalid {key} (expected tables: [[{key}]])")
        for number, row in enumerate(rows, 1):
            table = Table(row, f"{self._where}: [[{key}]] number {number}")
            yield table
            table.finish()

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield every key with its string."""
        for key in self._values:
            yield key, self.text(key)

    def finish(self) -> None:
        """Refuse keys that nobody read.

        Raises:
            UsageError: with their names.
        """
        if unknown := sorted(set(self._values) - self._read):
            raise self.error(f"unknown {', '.join(unknown)} (expected {', '.join(sorted(self._read))})")

    def error(self, message: str) -> UsageError:
        """Return an error that names this table."""
        return UsageError(f"{self._where}: {message}")

    def _get(self, key: str, default: object) -> object:
        self._read.add(key)
        value = self._values.get(key, default)
        if value is None:
            raise self.error(f"{key} is missing")
        return value

    def _convert(self, key: str, value: object, read: Callable[[Any], T]) -> T:
        # A number is an address to the standard library, and true is 0.0.0.1; to a person both are mistakes.
        if read.__module__ == "ipaddress" and not isinstance(value, str):
            raise self.error(f"invalid {key} {value!r} (expected an address in quotes)")
        try:
            return read(value)
        except (ValueError, TypeError) as error:
            raise self.error(f"invalid {key} {value!r}: {error}") from None
