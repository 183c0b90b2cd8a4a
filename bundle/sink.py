"""The one way to a person's terminal: text of a guest is shown there and never obeyed.

What a guest says, a template's label, a file's name: all of it may hold escape sequences that move the cursor, rename
the window or hide lines. Every command prints through here, so that none of them has to think of it. A reader who has
gone (``sysvm run | head``) is no trouble of what is being done: nothing more is written to that stream.
"""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

# Control characters of both sets but tab and line feed; line and paragraph separators; what turns the direction of
# writing around; and halves of pairs of UTF-16, which no stream can carry.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# A log file has no width, and must not fold an id.
_WIDTH = 200


def escape(text: str) -> str:
    r"""Return text that no terminal obeys: ``\x1b`` for an escape, ``\u202e`` for a turn; lines and tabs stay."""
    return _UNSAFE.sub(_named, text)


def one_line(text: str) -> str:
    """Return text that is safe and stays on one line: line feeds and tabs become blanks."""
    return escape(text.replace("\r\n", " ").replace("\n", " ").replace("\t", " "))


def _named(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def tell(text: str = "", *, err: bool = False) -> None:
    """Print a line, escaped; on standard error with ``err``."""
    _write(sys.stderr if err else sys.stdout, escape(text) + "\n")


def tell_json(document: object) -> None:
    """Print a document as indented JSON; what a terminal would obey is written as JSON's own escapes."""
    plain = json.dumps(document, indent=2, ensure_ascii=False)
    _write(sys.stdout, _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", plain) + "\n")


def hand_on(text: str, *, err: bool = False) -> None:
    """Print what a guest's command has said: escaped on a terminal, as it is into a file or a pipe."""
    stream = sys.stderr if err else sys.stdout
    shown = escape(text) if stream.isatty() else text.encode(errors="backslashreplace").decode()
    _write(stream, shown)


def cell(text: str, style: str = "") -> Text:
    """Return text for a table of ``rich``: one line, escaped, and no markup."""
    from rich.text import Text

    return Text(one_line(text), style=style)


def show(renderable: RenderableType) -> None:
    """Print what ``rich`` renders: as wide as the terminal, or 200 columns wide where there is none."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    # Captured: rich ends the process when the reader has gone.
    with console.capture() as captured:
        console.print(renderable)
    _write(sys.stdout, captured.get())


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        _write(stream, text.encode(encoding, "backslashreplace").decode(encoding))
    except (OSError, ValueError):
        _abandon(stream)


def _abandon(stream: TextIO) -> None:
    """Let a stream without a reader lead nowhere, also for what is flushed at the end of the process."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
