"""Runs many small commands in a guest in one round trip and brings their outputs back byte for byte.

A round trip over SSH costs up to half a second under emulation, and file names may hold any byte but NUL.
So one script runs all commands and prints one line for each: name, status, and the output, compressed and in
base64. It needs bash, gzip and coreutils, which every system VM since Debian 9 has.
"""

from __future__ import annotations

import base64
import gzip
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from bundle.errors import InfrastructureError
from harness.protocols import Guest

_END = "collected"
_NAME = re.compile(r"[a-z0-9_.-]+")


@dataclass(frozen=True)
class Section:
    """The output of one command of a collection."""

    name: str
    status: int
    output: bytes

    @property
    def text(self) -> str:
        """The output as text; bytes that are no UTF-8 survive as surrogates."""
        return self.output.decode("utf-8", "surrogateescape")


def script(commands: Mapping[str, str]) -> str:
    """Return the script that runs every command, each in its own shell."""
    lines = [
        "export LC_ALL=C",
        "collect() {",
        "    local output status",
        '    output=$(bash -c "$2" </dev/null 2>/dev/null | gzip -1 | base64 -w0; exit "${PIPESTATUS[0]}")',
        "    status=$?",
        '    printf "%s %s %s\\n" "$1" "$status" "$output"',
        "}",
    ]
    for name, command in commands.items():
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"invalid name of a section {name!r} (expected lower-case letters, digits, . _ -)"
            )
        lines.append(f"collect {name} {shlex.quote(command)}")
    return "\n".join([*lines, f"echo {_END}", ""])


def collect(guest: Guest, commands: Mapping[str, str], *, deadline: float = 120.0) -> dict[str, Section]:
    """Run the commands in the guest and return their outputs by name.

    A command that fails is a :class:`Section` with its status: whether that matters is for the caller to say.

    Raises:
        InfrastructureError: the script did not run to its end, or its answer cannot be read.
    """
    done = guest.run("bash -s", stdin=script(commands).encode(), deadline=deadline, check=False)
    lines = done.stdout.splitlines()
    if done.status != 0 or not lines or lines[-1] != _END:
        said = done.stderr.strip().splitlines()[-1:] or ["nothing on standard error"]
        raise InfrastructureError(
            f"{guest.name}: collecting {', '.join(commands)} ended early, status {done.status}: {said[0]}"
        )
    sections = {}
    for line in lines[:-1]:
        try:
            name, status, output = line.split(" ")
            sections[name] = Section(
                name, int(status), gzip.decompress(base64.b64decode(output, validate=True))
            )
        except (ValueError, OSError, EOFError):
            raise InfrastructureError(f"{guest.name}: cannot read the collected line {line[:60]!r}") from None
    if missing := [name for name in commands if name not in sections]:
        raise InfrastructureError(f"{guest.name}: nothing was collected for {', '.join(missing)}")
    return sections
