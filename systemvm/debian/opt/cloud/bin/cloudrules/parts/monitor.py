"""Monitoring of the router's own services: what to watch, how often, and what the health checks compare with.

Proof: cron runs, which reads the files at every minute. Where nothing is to be run it may rest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

from .. import system
from ..errors import Failed
from ..state import State

KINDS = frozenset({"monitorservice"})
CONFIG = Path("/etc/monitor.conf")
CRON = Path("/etc/cron.d/process")
_FORMER_CRON = Path("/etc/cron.d/cloud-monitor")
DATA = Path("/root/health_checks_data.json")
_PROGRAM = "/root/monitorServices.py"
UNIT = "cron.service"


def render_config(bag: Dict[str, Any]) -> str:
    """Return the services to watch as an INI file; management sends ``[name]:key=value:,[name]:…``."""
    lines = []
    for section in bag.get("config", "").split(","):
        lines += [part for part in section.split(":") if part]
    return "\n".join(lines) + "\n" if lines else ""


def render_cron(bag: Dict[str, Any]) -> str:
    """Return the times of the checks; an interval of 0 switches a kind off."""
    lines = [
        "# Made by the rules of the virtual router.",
        "SHELL=/bin/bash",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    ]
    if not bag.get("health_checks_enabled", True):
        return "\n".join(lines) + "\n"
    for kind, unset in (("basic", 3), ("advanced", 10)):
        minutes = bag.get(f"health_checks_{kind}_run_interval", unset)
        if minutes:
            lines.append(f"{_schedule(minutes)} root {_PROGRAM} {kind}")
    return "\n".join(lines) + "\n"


def _schedule(minutes: int) -> str:
    if minutes < 60:
        return f"*/{minutes} * * * *"
    return f"0 */{min(minutes // 60, 23)} * * *"


def render_data(bag: Dict[str, Any]) -> str:
    """Return what the health checks compare with, as they read it."""
    data = {key: value for key, value in bag.items() if key.startswith("health_checks_")}
    names = bag.get("excluded_health_checks", "").split(",")
    data["excluded_health_checks"] = [name.strip() for name in names if name.strip()]
    return json.dumps(data, indent=1, sort_keys=True) + "\n"


def check(_state: State) -> None:
    """Nothing to check beyond the fields."""


def apply(state: State) -> None:
    """Write the files; cron and the monitor read them by themselves."""
    bag = state.bag("monitorservice")
    if not bag:
        return
    system.write_text(CONFIG, render_config(bag))
    system.write_text(CRON, render_cron(bag))
    system.write_text(DATA, render_data(bag), 0o600)
    if _FORMER_CRON.exists():
        _FORMER_CRON.unlink()


def prove(state: State) -> None:
    """Refuse to say that services are watched while nothing does it."""
    bag = state.bag("monitorservice")
    if bag and _PROGRAM in render_cron(bag) and not system.unit_active(UNIT):
        raise Failed(f"monitorservice: {UNIT} does not run, so nothing is watched")
