"""The aggregate file: many databags and scripts in one upload, applied as one transaction.

The format is a line-based markup of CloudStack: ``<version>`` with ``1.0``, then any number of ``<file>`` items (a
path, then the content) and ``<script>`` items (a command), each closed by its end tag.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from . import engine, messages, pending, system
from .errors import Refused
from .messages import Message

VERSION = "1.0"
_UPDATE = "update_config.py"
_FOLDERS = (Path("/var/cache/cloud"), Path("/etc/cloudstack"))


class Item(NamedTuple):
    """One item: ``kind`` is ``file`` or ``script``; the lines are as they stand in the aggregate."""

    kind: str
    lines: Tuple[str, ...]


def parse(source: str) -> List[Item]:
    """Return the items of an aggregate.

    Raises:
        Refused: the markup is broken, or the version is another one.
    """
    items: List[Item] = []
    kind: Optional[str] = None
    lines: List[str] = []
    version = None
    for number, line in enumerate(source.splitlines(), 1):
        tag = line.strip()
        if kind is None:
            if not tag or tag.startswith("#"):
                continue
            if tag not in ("<version>", "<file>", "<script>"):
                raise Refused(f"line {number}: expected <version>, <file> or <script>, not {line[:60]!r}")
            kind, lines = tag[1:-1], []
        elif tag == f"</{kind}>":
            if kind == "version":
                version = "\n".join(lines).strip()
            else:
                items.append(Item(kind, tuple(lines)))
            kind = None
        else:
            lines.append(line)
    if kind is not None:
        raise Refused(f"<{kind}> is not closed: the file is cut off")
    if version != VERSION:
        raise Refused(f"version {version!r} is not {VERSION!r}")
    return items


class Batch(NamedTuple):
    """What an aggregate asks for: databags in their order, other files, other commands."""

    messages: List[Message]
    files: Dict[Path, str]
    commands: List[List[str]]
    kept: List[Tuple[str, str]]


def collect(items: List[Item]) -> Batch:
    """Sort the items, checking every one of them before anything happens.

    Raises:
        Refused: a databag is malformed, a script names a file that is nowhere, or a path is outside its folders.
    """
    batch = Batch([], {}, [], [])
    for item in items:
        if item.kind == "file":
            if not item.lines:
                raise Refused("<file> without a path")
            batch.files[_path(item.lines[0].strip())] = "\n".join(item.lines[1:]) + "\n"
            continue
        command = shlex.split(" ".join(item.lines))
        if not command:
            raise Refused("<script> without a command")
        if Path(command[0]).name == _UPDATE:
            _databag(batch, command)
        else:
            batch.commands.append(command)
    return batch


def _path(text: str) -> Path:
    path = Path(text)
    if ".." in path.parts or not any(folder in path.parents for folder in _FOLDERS):
        raise Refused(f"file {text!r} is in none of the folders {', '.join(map(str, _FOLDERS))}")
    return path


def _databag(batch: Batch, command: List[str]) -> None:
    """Take a databag over from the files: it is merged from memory and never touches the disk."""
    if len(command) not in (2, 3):
        raise Refused(f"script {' '.join(command)!r}: expected update_config.py FILE [false]")
    path = pending.FOLDER / command[1]
    if path in batch.files:
        text = batch.files.pop(path)
        try:
            batch.messages.append(messages.parse(text))
        except Refused as error:
            raise Refused(f"{path.name}: {error}") from None
        if command[2:] != ["false"]:
            batch.kept.append((path.name, text))
    else:
        batch.messages.append(pending.read(path))


def process(path: Path) -> None:
    """Apply an aggregate: all databags in one transaction, then the other commands in their order.

    Raises:
        Refused: something in it is malformed; nothing was changed.
        Failed: the rules could not be applied (what had been changed was put back), or a command failed.
    """
    try:
        source = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from None
    batch = collect(parse(source))
    first = pending.command_line()
    for target, text in batch.files.items():
        system.write_text(target, text, 0o600)
    if first or batch.messages:
        engine.process([first, *batch.messages] if first else batch.messages)
    if first:
        pending.put_away(pending.FOLDER / pending.COMMAND_LINE, keep=True)
    for name, text in batch.kept:
        pending.keep_copy(name, text.encode("utf-8"))
    for command in batch.commands:
        system.run(command, timeout=600)
    path.unlink()
    pending.keep_copy(path.name, source.encode("utf-8"))
