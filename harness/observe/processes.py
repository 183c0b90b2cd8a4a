"""Every process: which program it runs, as whom and where, and whether that program is the one on the disk."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.guest.collect import Section

_DELETED = " (deleted)"
# What a mapping of memory that never was a file is called.
_NO_FILE = re.compile(r"^(/memfd:|/dev/zero|/dev/shm/|/SYSV|/i915|/anon_hugepage|/tmp/ffi|/\[)")
_UNIT = re.compile(r"[^/]+\.(service|scope|socket|mount|slice)")
_OUTSIDE = "outside services"
_INTERPRETER = re.compile(r"(python|perl|bash|dash|sh|java)[0-9.]*$")


@dataclass(frozen=True)
class Program:
    """A process.

    Attributes:
        pid: its number.
        parent: number of the process that started it, 1 when that one has ended.
        start: when it started, clock ticks since boot.
        file: path of the program.
        owner: user.
        unit: of systemd, such as ``haproxy.service``, the innermost; a login's processes are ``outside services``.
        command: its command line, for reviewed rows only: arguments may be secrets.
        state: as the kernel has it, a letter: ``T`` for one that was stopped.
        gone: files that it runs and that are no longer on the disk as they were: the program itself, or libraries.
    """

    pid: int
    parent: int
    start: int
    file: str
    owner: str
    unit: str
    command: str
    state: str = ""
    gone: tuple[str, ...] = ()

    @property
    def script(self) -> str:
        """Path of the script that it runs when it is an interpreter, else empty."""
        if not _INTERPRETER.match(self.file.rsplit("/", 1)[-1]):
            return ""
        script = next((word for word in self.command.split()[1:] if not word.startswith("-")), "")
        return script if script.startswith("/") else ""

    @property
    def name(self) -> str:
        """The name for people: the program, and the script that an interpreter runs; arguments may be secrets."""
        return f"{self.file.rsplit('/', 1)[-1]} {self.script}".rstrip()

    @property
    def word(self) -> str:
        """Its service, else the name of its program."""
        service = self.unit.removesuffix(".service")
        return self.file.rsplit("/", 1)[-1] if service == _OUTSIDE else service


def commands() -> dict[str, str]:
    """Return the commands that :func:`parse` reads, with ``services.stat``, ``services.groups``, ``state.owners``."""
    return {
        "processes.self": "echo $$",
        # A process may end meanwhile: then "find" ends with 1, and "grep" with 2.
        "processes.files": r"find /proc/[0-9]*/exe -maxdepth 0 -printf '%p\0%u\0%l\0'; [ $? -le 1 ]",
        # Of one that has changed its user, root owns the files that tell of it.
        "processes.users": "grep -s '^Uid:' /proc/[0-9]*/status; [ $? -le 2 ]",
        "processes.commands": "grep -sazH '' /proc/[0-9]*/cmdline | tr '\\0' '\\n'; [ $? -le 2 ]",
        "processes.gone": "grep -sH ' r-xp .*(deleted)$' /proc/[0-9]*/maps; [ $? -le 2 ]",
    }


def parse(sections: Mapping[str, Section]) -> tuple[Program, ...] | None:
    """Turn the outputs of :func:`commands` into processes; without the kernel's own, and those that look.

    Returns None when the guest could not say.
    """
    listing = sections["processes.files"].text
    if not listing:
        return None
    stats = dict(_stats(sections["services.stat"].text))
    units = dict(_units(sections["services.groups"].text))
    users = dict(_users(sections["processes.users"].text, sections["state.owners"].text))
    lines = _command_lines(sections["processes.commands"].text)
    gone = _gone(sections["processes.gone"].text)
    own = _family(sections["processes.self"].text.strip(), stats)
    found = []
    values = listing.split("\0")
    for path, owner, file in zip(*(values[i:-1:3] for i in range(3)), strict=True):
        pid = _pid(path)
        if pid in stats and pid not in own and file:
            state, parent, start = stats[pid]
            found.append(
                Program(
                    pid, parent, start, file.removesuffix(_DELETED), users.get(pid, owner), units.get(pid, _OUTSIDE),
                    " ".join(lines.get(pid, ())), state, _missing(file, gone.get(pid, ())),
                )
            )  # fmt: skip
    return tuple(sorted(found, key=lambda program: program.pid))


def _missing(file: str, mapped: tuple[str, ...]) -> tuple[str, ...]:
    names = {*mapped, *([file] if file.endswith(_DELETED) else [])}
    return tuple(sorted(name.removesuffix(_DELETED) for name in names if not _NO_FILE.match(name)))


def _pid(path: str) -> int:
    return int(path.split("/")[2])


def _stats(text: str) -> Iterator[tuple[int, tuple[str, int, int]]]:
    for line in text.splitlines():
        head, _, tail = line.rpartition(")")
        pid, fields = head.partition(" ")[0], tail.split()
        if pid.isdigit() and len(fields) > 19:
            yield int(pid), (fields[0], int(fields[1]), int(fields[19]))


def _users(text: str, known: str) -> Iterator[tuple[int, str]]:
    """Yield the number of each process and the user whose rights it has."""
    names = {
        fields[2]: fields[0] for line in reversed(known.splitlines()) if len(fields := line.split(":")) == 7
    }
    for line in text.splitlines():
        head, _, numbers = line.partition("/status:Uid:")
        if len(told := numbers.split()) == 4:
            yield int(head.removeprefix("/proc/")), names.get(told[1], told[1])


def _units(text: str) -> Iterator[tuple[int, str]]:
    for line in text.splitlines():
        match = re.fullmatch(r"/proc/(\d+)/cgroup:(?:0:|\d+:name=systemd):(/.*)", line)
        if match:
            names = [name for name in match[2].split("/") if _UNIT.fullmatch(name)]
            services = [name for name in names if name.endswith(".service")]
            yield int(match[1]), services[-1] if services else _OUTSIDE


def _command_lines(text: str) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    pid = 0
    for line in text.split("\n"):
        head, said, word = line.partition("/cmdline:")
        if said and head.startswith("/proc/"):
            pid = int(head.removeprefix("/proc/"))
            found.setdefault(pid, []).append(word)
        elif pid and line:
            found[pid].append(line)
    return found


def _gone(text: str) -> dict[int, tuple[str, ...]]:
    found: dict[int, set[str]] = {}
    for line in text.splitlines():
        head, _, mapping = line.partition("/maps:")
        fields = mapping.split(None, 5)
        if len(fields) == 6:
            found.setdefault(int(head.removeprefix("/proc/")), set()).add(fields[5])
    return {pid: tuple(names) for pid, names in found.items()}


def _family(own: str, stats: Mapping[int, tuple[str, int, int]]) -> set[int]:
    """Return the processes that look: the shell of the observation, all above it, and all below it."""
    if not own.isdigit():
        return set()
    shell = int(own)
    above, pid = {shell}, shell
    while (pid := stats.get(pid, ("", 0, 0))[1]) > 1 and pid not in above:
        above.add(pid)
    below, more = {shell}, True
    while more:
        new = {pid for pid, (_, parent, _) in stats.items() if parent in below} - below
        below |= new
        more = bool(new)
    return above | below
