"""Runs many small commands in a guest in one round trip and brings their outputs back byte for byte.

Under emulation a round trip over SSH costs up to half a second and every process that starts some 20 ms, and file
names may hold any byte but NUL. So one shell runs all commands, keeps their outputs in memory (``/dev/shm``), and sends
them as one compressed archive in base64. It needs bash, tar, gzip and coreutils, which every system VM since Debian 9
has.
"""

from __future__ import annotations

import base64
import io
import re
import shlex
import tarfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from bundle.archive.limits import AnswerLimits
from bundle.errors import InfrastructureError
from harness.guest.protocols import Guest

# The exit status of a command that finds nothing of what it is about: the VM has no such file, or no such program.
ABSENT = 69
_END = "collected"
_NAME = re.compile(r"[a-z0-9]+(\.[a-z0-9-]+)?")


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


def script(commands: Mapping[str, str], beside: Collection[str] = ()) -> str:
    """Return the script that runs every command, each in a subshell of its own; ``beside`` names :func:`collect`'s."""
    lines = [
        "export LC_ALL=C",
        "set -o pipefail",
        "umask 077",  # among the outputs are files with keys
        "folder=$(mktemp -d /dev/shm/observe.XXXXXX) || exit",
        """trap 'rm -rf "$folder"' EXIT""",
        "collect() {",
        '    (eval "$2") >"$folder/$1" 2>/dev/null </dev/null',
        '    echo "$1 $?" >>"$folder/status"',
        "}",
    ]
    lanes: dict[bool, list[str]] = {True: [], False: []}
    for name, command in commands.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"invalid name of a section {name!r} (expected subject.what, lower-case)")
        lanes[name in beside].append(f"collect {name} {shlex.quote(command)}")
    if lanes[True]:
        lines += ["{", *lanes[True], "} &"]
    return "\n".join(
        [
            *lines,
            *lanes[False],
            "wait",
            'tar -C "$folder" -cf - . | gzip -1 | base64 -w0 || exit',
            f"echo; echo {_END}",
            "",
        ]
    )


def of_program(name: str, command: str) -> str:
    """Return a command that ends as ``ABSENT`` where the guest has no such program."""
    return f"command -v {name} >/dev/null || exit {ABSENT}; {command}"


def of_file(path: str, command: str = "cat") -> str:
    """Return the command that reads one file, and ends as ``ABSENT`` where that is not there."""
    quoted = shlex.quote(path)
    return f"[ -e {quoted} ] || exit {ABSENT}; {command} -- {quoted}"


def of_paths(paths: Sequence[str], command: str) -> str:
    """Return a command that gets, as its arguments, those of some paths that are there; ``ABSENT`` without any."""
    words = " ".join(map(shlex.quote, paths))
    return (
        f'set --; for p in {words}; do [ ! -e "$p" ] || set -- "$@" "$p"; done; [ "$#" -gt 0 ] || exit {ABSENT}; '
        f"{command}"
    )


def unanswered(sections: Mapping[str, Section], commands: Mapping[str, str]) -> dict[str, int]:
    """Return the exit status of each command that failed or was killed, by its name: it has not answered.

    Only what :func:`of_program`, :func:`of_file` and :func:`of_paths` return may find that what it is about is absent.
    """
    absent = f"exit {ABSENT};"
    return {
        name: section.status
        for name, section in sections.items()
        if section.status != 0 and not (section.status == ABSENT and absent in commands.get(name, ""))
    }


def answered(guest: Guest, commands: Mapping[str, str], *, deadline: float = 120.0) -> dict[str, Section]:
    """Run the commands in the guest and return their outputs by name, where all of them have answered.

    Raises:
        InfrastructureError: as of :func:`collect`, or one of them failed or was killed.
    """
    sections = collect(guest, commands, deadline=deadline)
    if failed := unanswered(sections, commands):
        said = ", ".join(f"{name} (status {status})" for name, status in sorted(failed.items()))
        raise InfrastructureError(f"{guest.name}: it did not say {said}")
    return sections


def collect(
    guest: Guest, commands: Mapping[str, str], *, beside: Collection[str] = (), deadline: float = 120.0
) -> dict[str, Section]:
    """Run the commands in the guest and return their outputs by name.

    Those that ``beside`` names run one after the other, too, and beside all others: a guest has two processors.

    A command that fails is a :class:`Section` with its status: whether that matters is for the caller to say. Commands
    of :func:`of_program`, :func:`of_file` and :func:`of_paths` tell what is not there from what cannot be read.

    Raises:
        InfrastructureError: the script did not run to its end, or its answer cannot be read.
    """
    text = script(commands, beside).encode("utf-8", "surrogateescape")  # names of files may hold any byte
    done = guest.run("bash -s", stdin=text, deadline=deadline, check=False)
    lines = done.stdout.splitlines()
    if done.status != 0 or len(lines) != 2 or lines[1] != _END:
        said = done.stderr.strip().splitlines()[-1:] or ["nothing on standard error"]
        raise InfrastructureError(
            f"{guest.name}: collecting {', '.join(commands)} ended early, status {done.status}: {said[0]}"
        )
    try:
        outputs = _unpack(base64.b64decode(lines[0], validate=True))
        statuses = dict(line.split() for line in outputs["status"].decode().splitlines())
        return {name: Section(name, int(statuses[name]), outputs[name]) for name in commands}
    except (ValueError, OSError, EOFError, KeyError, tarfile.TarError) as error:
        raise InfrastructureError(f"{guest.name}: cannot read what was collected: {error!r}") from None


def _unpack(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as packed:
        files = ((member, packed.extractfile(member)) for member in packed if member.isfile())
        return dict(_bounded((member.name.removeprefix("./"), file) for member, file in files if file))


def _bounded(files: Iterator[tuple[str, IO[bytes]]]) -> Iterator[tuple[str, bytes]]:
    """Yield files with their contents, and no more of them than the limit allows."""
    left = AnswerLimits.unpacked
    for name, file in files:
        content = file.read(left + 1)
        left -= len(content)
        if left < 0:
            raise ValueError(f"it unpacks to more than {AnswerLimits.unpacked} bytes, which is the limit")
        yield name, content
