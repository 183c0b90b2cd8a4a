"""Units of every type: what systemd was told about each, whether it has read the newest, and how each one stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# Every type that has settings; targets have only a state, and devices are the kernel's.
KINDS = (
    "service", "timer", "socket", "mount", "automount", "swap", "path", "slice", "scope",
)  # fmt: skip
# What is configuration, reviewed: all others are counters, times, numbers of processes, or follow from these.
SETTINGS = (
    "FragmentPath", "DropInPaths", "UnitFileState", "Type", "User", "Group", "ExecStartPre", "ExecStart",
    "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost", "Environment", "EnvironmentFiles", "WorkingDirectory",
    "RootDirectory",
    "Restart", "RestartUSec", "TimeoutStartUSec", "TimeoutStopUSec", "WatchdogUSec", "KillMode", "KillSignal",
    "CPUQuotaPerSecUSec", "CPUWeight", "CPUShares", "AllowedCPUs", "IOWeight", "MemoryMin", "MemoryHigh", "MemoryMax",
    "MemorySwapMax", "MemoryLimit", "TasksMax", "LimitNOFILE", "LimitNPROC", "LimitCORE", "LimitMEMLOCK", "LimitAS",
    "Nice", "OOMScoreAdjust", "CPUSchedulingPolicy", "NoNewPrivileges", "PrivateTmp", "PrivateNetwork", "ProtectSystem",
    "ProtectHome", "ReadOnlyPaths", "CapabilityBoundingSet", "AmbientCapabilities", "Listen", "TimersCalendar",
    "TimersMonotonic", "Persistent", "What", "Where", "Options", "Wants", "Requires", "Conflicts", "OnFailure",
)  # fmt: skip
PROPERTIES = (*SETTINGS, "NeedDaemonReload")
# What systemd itself is told, which holds for every unit that says nothing else.
MANAGER = "systemd itself"
MANAGER_SETTINGS = (
    "Environment", "LogLevel", "LogTarget", "UnitPath", "DefaultStandardOutput", "DefaultStandardError",
    "DefaultTimeoutStartUSec", "DefaultTimeoutStopUSec", "DefaultLimitNOFILE", "DefaultLimitNPROC", "DefaultLimitCORE",
    "DefaultLimitAS", "DefaultTasksMax", "DefaultOOMPolicy", "RuntimeWatchdogUSec", "CtrlAltDelBurstAction",
)  # fmt: skip
# Within a value: when a command last ran and how it ended; when a timer elapses next.
_PASSING = re.compile(r"\s*;\s*(start_time|stop_time|pid|code|status|next_elapse)=[^;}]*")
# Sets, which systemd tells in whatever order.
_SETS = frozenset({"Wants", "Requires", "Conflicts", "OnFailure"})
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Unit:
    """A unit. ``stale`` says that its files were changed and systemd was not told to read them again."""

    name: str
    load: str
    active: str
    sub: str
    stale: bool
    settings: Mapping[str, str]

    @property
    def files(self) -> tuple[str, ...]:
        """The files that describe it."""
        named = f"{self.settings.get('FragmentPath', '')} {self.settings.get('DropInPaths', '')}"
        return tuple(named.split())


def unit(values: Mapping[str, str]) -> Unit:
    """Return the unit that a block of ``systemctl show`` describes."""
    return Unit(
        name=values["Id"],
        load=values.get("LoadState", ""),
        active=values.get("ActiveState", ""),
        sub=values.get("SubState", ""),
        stale=values.get("NeedDaemonReload") == "yes",
        settings={name: _plain(name, values[name]) for name in SETTINGS if values.get(name)},
    )


def manager(text: str) -> Unit:
    """Return systemd itself as a unit, from what ``systemctl show`` says of it."""
    values = dict(line.partition("=")[::2] for line in text.splitlines())
    settings = {name: _plain(name, values[name]) for name in MANAGER_SETTINGS if values.get(name)}
    return Unit(MANAGER, "loaded", "active", "running", stale=False, settings=settings)


def _plain(name: str, value: str) -> str:
    if name in _SETS:
        return " ".join(sorted(value.split()))
    return _SPACE.sub(" ", _PASSING.sub("", value)).strip()
