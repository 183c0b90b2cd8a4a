"""Commands that list extended attributes and inode flags, whatever a template has for it."""

from __future__ import annotations

import re
import shlex

from harness.guest.collect import of_program

# Lists attributes as getfattr does, which hardly any template has; bytes that it would escape are escaped.
_ATTRIBUTES = r"""
import os, re, sys
write = sys.stdout.buffer.write
def escaped(name):
    return re.sub(rb"[\\\n\r=]", lambda found: b"\\%03o" % ord(found[0]), os.fsencode(name))
for root in sys.argv[1:]:
    for folder, folders, names in os.walk(root):
        for path in [folder] + [os.path.join(folder, name) for name in folders + names]:
            try:
                found = [(key, os.getxattr(path, key, follow_symlinks=False))
                         for key in os.listxattr(path, follow_symlinks=False)]
            except OSError:
                continue
            if found:
                write(b"# file: " + escaped(path) + b"\n")
                for key, value in sorted(found):
                    write(os.fsencode(key) + b"=0x" + value.hex().encode() + b"\n")
                write(b"\n")
"""


def commands(inside: str, roots: str) -> dict[str, str]:
    """Return the commands for what is below some folders.

    Args:
        inside: sets the folders, and ends the command where there are none.
        roots: the folders, as words of bash.
    """
    flags = f"lsattr -aR {roots} 2>/dev/null | grep -E '^-*[^ ]*[ia][^ ]* /'"
    return {
        "state.xattrs": (
            f"{inside}if command -v getfattr >/dev/null; then "
            f"getfattr -R -P -h -d -m - -e hex --absolute-names -- {roots}; [ $? -le 1 ]; exit; fi; "
            + of_program("python3", f"python3 -S -E -c {shlex.quote(_ATTRIBUTES)} {roots}")
        ),
        # 1: a file is gone meanwhile, or its file system knows no flags; or none has any.
        "state.flags": of_program(
            "lsattr", f'{inside}{flags}; s=("${{PIPESTATUS[@]}}"); ((s[0] <= 1 && s[1] <= 1))'
        ),
    }


def parse_xattrs(text: str) -> dict[str, tuple[tuple[str, str], ...]]:
    """Parse what ``getfattr -d -e hex --absolute-names`` prints: extended attributes by path."""
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    path = ""
    for line in text.splitlines():
        if line.startswith("# file: "):
            path = _unescape(line.removeprefix("# file: "))
        elif line and path:
            name, _, value = line.partition("=")
            found[path] = (*found.get(path, ()), (_unescape(name), value))
    return found


def _unescape(text: str) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    plain = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), raw)
    return plain.decode("utf-8", "surrogateescape")
