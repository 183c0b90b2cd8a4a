"""Line ends of text that a system VM reads: CR LF makes every script in it a "bad interpreter"."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePosixPath

# How much of an archive's member is looked at: enough for the first lines, and for a picture to show a NUL byte.
HEAD = 256
# Run, sourced or read line by line by programs that take the CR for a part of the line, also without "#!".
_READ_BY_LINE = (
    "*.sh",
    "*.templ",
    "etc/cron*",
    "etc/iptables/*",
    "etc/profile.d/*",
    "opt/cloud/bin/setup/*",
)


def breaks_in_guest(path: str, data: bytes) -> bool:
    """Say whether a member would not run or not be understood in a system VM for its CR LF line ends.

    Args:
        path: place in the archive.
        data: the content, or its first bytes.
    """
    if b"\r\n" not in data or b"\0" in data:
        return False
    if data.startswith(b"#!"):
        return True
    name = PurePosixPath(path).name
    return any(fnmatchcase(path, row) or fnmatchcase(name, row) for row in _READ_BY_LINE)


def with_lf(data: bytes) -> bytes | None:
    """Return a text with LF line ends; None when it is no text, or has them already."""
    if b"\r\n" not in data or b"\0" in data:
        return None
    try:
        data.decode()
    except UnicodeDecodeError:
        return None
    return data.replace(b"\r\n", b"\n")
