"""Files that management left in ``/var/cache/cloud``: found, read and put away once they are applied."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Optional

from . import engine, messages, system
from .errors import Failed, Refused, Unknown
from .messages import Message

FOLDER = Path("/var/cache/cloud")
PROCESSED = FOLDER / "processed"
COMMAND_LINE = "cmd_line.json"


def read(path: Path) -> Message:
    """Read one databag file.

    Raises:
        Refused: it is missing or malformed; the text names the file.
    """
    try:
        return messages.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused(f"{path.name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Refused(f"{path.name}: not UTF-8 text") from None
    except Refused as error:
        raise type(error)(f"{path.name}: {error}") from None


def keep_copy(name: str, content: bytes) -> None:
    """Keep a compressed copy of what was applied. Only root can read it: it may hold passwords."""
    PROCESSED.mkdir(parents=True, exist_ok=True)
    system.write_bytes(PROCESSED / (name + ".gz"), gzip.compress(content, 1), 0o600)


def put_away(path: Path, keep: bool) -> None:
    """Remove a file that was applied, keeping a compressed copy if asked to."""
    if keep:
        keep_copy(path.name, path.read_bytes())
    path.unlink()


def command_line() -> Optional[Message]:
    """Return the command line, if it has not been merged yet."""
    path = FOLDER / COMMAND_LINE
    return read(path) if path.exists() else None


def process(name: str, keep: bool) -> bool:
    """Apply one file, and before it the command line if that is still pending.

    Returns:
        False when the file is gone because it was applied before.

    Raises:
        Unknown: it is of a type that this guest does not know; it was put away.
        Refused: the file is missing or malformed; nothing was changed.
        Failed: it could not be applied; what had been changed was put back.
    """
    path = FOLDER / name
    if path.parent != FOLDER:
        raise Refused(f"{name!r} is not a plain file name")
    if not path.exists() and (PROCESSED / (name + ".gz")).exists():
        return False
    first = command_line() if name != COMMAND_LINE else None
    try:
        message = read(path)
    except Unknown:
        put_away(path, keep)
        raise
    troubles = engine.process([first, message] if first else [message])
    if first and not any(refused is first for refused, _reason in troubles):
        put_away(FOLDER / COMMAND_LINE, keep=True)
    for _refused, reason in troubles:
        raise Failed(reason)
    put_away(path, keep)
    return True
