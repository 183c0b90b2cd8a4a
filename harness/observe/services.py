"""Services and their processes: enough to tell a restart from a graceful reload, and both from nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from harness.guest.collect import Section, of_file
from harness.observe import units
from harness.observe.sockets import Listener

_PROPERTIES = (
    "Id", "Names", "LoadState", "ActiveState", "SubState", "UnitFileState", "MainPID",
    "ExecMainStartTimestampMonotonic", "InvocationID", "NRestarts", "ControlGroup",
)  # fmt: skip
_LISTS = "/var/cache/cloud/enabled_svcs /var/cache/cloud/disabled_svcs"

ServiceChange: TypeAlias = Literal["unchanged", "restarted", "reloaded", "started", "stopped", "inactive"]
# What systemd is asked, which takes about as long as everything else of an observation.
OF_SYSTEMD = ("services.units", "services.manager", "services.states")


@dataclass(frozen=True)
class Process:
    """A process, told from a later one with the same number by its start (clock ticks since boot)."""

    pid: int
    start: int


@dataclass(frozen=True)
class Service:
    """A service unit as systemd and the kernel see it. ``started`` is in microseconds since boot."""

    name: str
    load: str
    active: str
    sub: str
    enabled: str
    main_pid: int
    started: int
    invocation: str
    restarts: int
    processes: frozenset[Process]

    @property
    def is_active(self) -> bool:
        """True if it is up."""
        return self.active == "active"

    @property
    def workers(self) -> frozenset[Process]:
        """Its processes other than the main one."""
        return frozenset(process for process in self.processes if process.pid != self.main_pid)

    def renewed_as(self, after: Service, listeners: tuple[Listener, ...]) -> ServiceChange:
        """Return what happened to this service on the way to ``after``.

        A graceful reload keeps the main process and starts new ones; the old ones may live on to serve the
        connections that they have, but none of them listens any longer. ``listeners`` are those of ``after``.
        """
        if not self.is_active or not after.is_active:
            if self.is_active == after.is_active:
                return "inactive"
            return "stopped" if self.is_active else "started"
        if (self.invocation, self.main_pid, self.started) != (
            after.invocation,
            after.main_pid,
            after.started,
        ):
            return "restarted"
        new = after.workers - self.workers
        old = {process.pid for process in after.workers & self.workers}
        still_listening = any(old & set(listener.pids) for listener in listeners)
        return "reloaded" if new and not still_listening else "unchanged"


@dataclass(frozen=True)
class Services:
    """All units of a guest, its services among them, the words of its two lists, and the units that have failed.

    ``enabled`` and ``disabled`` are None where the guest has no such list.
    """

    by_name: Mapping[str, Service]
    aliases: Mapping[str, str]
    enabled: tuple[str, ...] | None
    disabled: tuple[str, ...] | None
    failed: frozenset[str]
    units: Mapping[str, units.Unit] = field(default_factory=dict)

    def get(self, word: str) -> Service | None:
        """Return the service that a word of ``enabled_svcs`` means, aliases resolved."""
        unit = f"{word}.service"
        return self.by_name.get(self.aliases.get(unit, unit))


def commands() -> dict[str, str]:
    """Return the commands that :func:`parse` reads."""
    properties = ",".join((*_PROPERTIES, *units.PROPERTIES))
    kinds = " ".join(f"'*.{kind}'" for kind in units.KINDS)
    words = f"$(for s in $(cat {_LISTS} 2>/dev/null); do echo $s.service; done)"
    return {
        "services.units": f"systemctl show --no-pager --property={properties} {kinds} {words}",
        "services.manager": f"systemctl show --no-pager --property={','.join(units.MANAGER_SETTINGS)}",
        "services.enabled": of_file("/var/cache/cloud/enabled_svcs"),
        "services.disabled": of_file("/var/cache/cloud/disabled_svcs"),
        # Targets have a state and no settings: to be shown each one would take as long as all the rest.
        "services.states": "systemctl list-units --no-pager --no-legend --plain --all",
        # A process may end meanwhile: then "cat" ends with 1, and "grep" with 2.
        "services.stat": "cat /proc/[0-9]*/stat; [ $? -le 1 ]",
        "services.groups": "grep -s '' /proc/[0-9]*/cgroup; [ $? -le 2 ]",
    }


def parse(sections: Mapping[str, Section]) -> Services:
    """Turn the outputs of :func:`commands` into services."""
    processes = _processes(sections["services.stat"].text, sections["services.groups"].text)
    by_name: dict[str, Service] = {}
    aliases: dict[str, str] = {}
    every: dict[str, units.Unit] = {}
    for block in sections["services.units"].text.split("\n\n"):
        values: dict[str, str] = {}
        for line in block.splitlines():  # a property with several values has a line for each
            key, _, value = line.partition("=")
            values[key] = f"{values[key]} {value}" if key in values else value
        name = values.get("Id")
        if name:
            every[name] = units.unit(values)
        if name and name.endswith(".service"):
            by_name[name] = _service(values, processes.get(values.get("ControlGroup", ""), frozenset()))
            aliases |= dict.fromkeys(values.get("Names", name).split(), name)
    states = [line.lstrip("●* ").split() for line in sections["services.states"].text.splitlines()]
    for row in states:
        if len(row) > 3 and row[0].endswith(".target"):
            every[row[0]] = units.Unit(row[0], row[1], row[2], row[3], stale=False, settings={})
    if told := sections["services.manager"].text:
        every[units.MANAGER] = units.manager(told)
    return Services(
        by_name=by_name,
        aliases=aliases,
        enabled=_words(sections["services.enabled"]),
        disabled=_words(sections["services.disabled"]),
        failed=frozenset(row[0] for row in states if len(row) > 3 and row[2] == "failed"),
        units=every,
    )


def _words(section: Section) -> tuple[str, ...] | None:
    return tuple(section.text.split()) if section.status == 0 else None


def _service(values: Mapping[str, str], processes: frozenset[Process]) -> Service:
    return Service(
        name=values["Id"],
        load=values.get("LoadState", ""),
        active=values.get("ActiveState", ""),
        sub=values.get("SubState", ""),
        enabled=values.get("UnitFileState", ""),
        main_pid=_number(values.get("MainPID")),
        started=_number(values.get("ExecMainStartTimestampMonotonic")),
        invocation=values.get("InvocationID", ""),
        restarts=_number(values.get("NRestarts")),
        processes=processes,
    )


def _number(value: str | None) -> int:
    return int(value) if value and value.isdigit() else 0


def _processes(stat: str, groups: str) -> dict[str, frozenset[Process]]:
    """Return the processes of each control group, from ``/proc/*/stat`` and ``/proc/*/cgroup``."""
    starts = {}
    for line in stat.splitlines():
        # The second field is the name in brackets and may itself hold blanks and brackets.
        head, _, tail = line.rpartition(")")
        pid, fields = head.partition(" ")[0], tail.split()
        if pid.isdigit() and len(fields) > 19:
            starts[int(pid)] = int(fields[19])
    found: dict[str, set[Process]] = {}
    for line in groups.splitlines():
        match = re.fullmatch(r"/proc/(\d+)/cgroup:(?:0:|\d+:name=systemd):(/.*)", line)
        if match and (pid_number := int(match[1])) in starts:
            found.setdefault(match[2], set()).add(Process(pid_number, starts[pid_number]))
    return {group: frozenset(members) for group, members in found.items()}
