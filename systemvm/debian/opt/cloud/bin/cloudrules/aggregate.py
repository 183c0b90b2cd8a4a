"""The aggregate file: many databags and scripts in one upload; each databag is applied whole, or left out and named.

The format is a line-based markup of CloudStack: ``<version>`` with ``1.0``, then any number of ``<file>`` items (a
path, then the content) and ``<script>`` items (a command), each closed by its end tag.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from . import engine, messages, pending, system
from .errors import Failed, Refused, Unknown
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
    # Not splitlines(): other characters than "\n" end a line for it, and the text of a message may hold them.
    for number, line in enumerate(source.split("\n"), 1):
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


class Databag(NamedTuple):
    """A message of the aggregate: the name and the text of its file, and whether a copy is to be kept."""

    name: str
    text: str
    keep: bool
    message: Message


class Batch(NamedTuple):
    """Contents of an aggregate: databags in their order, other files, other commands, and what was refused."""

    databags: List[Databag]
    files: Dict[Path, str]
    commands: List[List[str]]
    troubles: List[str]


def collect(items: List[Item]) -> Batch:
    """Sort the items; a databag that is not understood goes to the troubles.

    Raises:
        Refused: the markup asks for something that is no item, or a path is outside its folders; nothing was changed.
    """
    batch = Batch([], {}, [], [])
    for item in items:
        if item.kind == "file":
            if not item.lines:
                raise Refused("<file> without a path")
            batch.files[_path(item.lines[0].strip())] = "\n".join(item.lines[1:]) + "\n"
            continue
        try:
            command = shlex.split(" ".join(item.lines))
        except ValueError as error:
            raise Refused(f"<script> that is no command: {error}") from None
        if not command:
            raise Refused("<script> without a command")
        if Path(command[0]).name != _UPDATE:
            # Management writes the word "null" for a command without arguments.
            batch.commands.append(command[:1] if command[1:] == ["null"] else command)
            continue
        try:
            _databag(batch, command)
        except Unknown as error:
            system.log(f"{command[1]} was ignored: {error}")
        except Refused as error:
            batch.troubles.append(str(error))
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
    if path not in batch.files:
        message = pending.read(path)
        batch.databags.append(Databag(path.name, "", False, message))
        return
    text = batch.files.pop(path)
    try:
        message = messages.parse(text)
    except Refused as error:
        raise type(error)(f"{path.name}: {error}") from None
    batch.databags.append(Databag(path.name, text, command[2:] != ["false"], message))


def process(path: Path) -> None:
    """Apply an aggregate: all databags, each as a whole or not at all, then the other commands in their order.

    Raises:
        Refused: its markup is broken; nothing was changed.
        Failed: some of it is not in force; the text says what and why, and how much is in force.
    """
    try:
        source = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Refused(f"{path}: not UTF-8 text") from None
    batch = collect(parse(source))
    first = pending.command_line()
    for target, text in batch.files.items():
        system.write_text(target, text, 0o600)
    troubles = batch.troubles + _apply(batch, first)
    for command in batch.commands:
        try:
            system.run(command, timeout=600)
        except Failed as error:
            troubles.append(str(error))
    if troubles:
        count = len(batch.databags) + len(batch.commands) - len(troubles) + len(batch.troubles)
        raise Failed(f"{'; '.join(troubles)}; the other {count} items are in force")
    path.unlink()
    pending.keep_copy(path.name, source.encode("utf-8"))


def _apply(batch: Batch, first: Optional[Message]) -> List[str]:
    """Apply the databags, and before them the command line if it is pending; return what is not in force, and why."""
    found = [databag.message for databag in batch.databags]
    refused = engine.process([first, *found] if first else found)
    named = [
        (pending.COMMAND_LINE if message is first else _name_of(batch, message), reason)
        for message, reason in refused
    ]
    if first and pending.COMMAND_LINE not in [name for name, _reason in named]:
        pending.put_away(pending.FOLDER / pending.COMMAND_LINE, keep=True)
    for databag in batch.databags:
        if databag.keep and databag.name not in [name for name, _reason in named]:
            pending.keep_copy(databag.name, databag.text.encode("utf-8"))
    return [f"{name}: {reason}" for name, reason in named]


def _name_of(batch: Batch, message: Message) -> str:
    return next(databag.name for databag in batch.databags if databag.message is message)
