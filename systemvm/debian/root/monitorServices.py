#!/usr/bin/python3 -ES
"""Watch the router's services and run its health checks: ``monitorServices.py basic|advanced``.

Called by cron as the databag ``monitorservice`` says. ``basic`` also starts services again that have died. The results
of ``/root/health_checks`` go to ``/root/<kind>_monitor_results.json``, which management fetches.
"""

import configparser
import json
import os
import subprocess
import sys
import time
from pathlib import Path

CONFIG = Path("/etc/monitor.conf")
DATA = Path("/root/health_checks_data.json")
CHECKS = Path("/root/health_checks")
RESULTS = "/root/{}_monitor_results.json"
LOG = Path("/var/log/routerServiceMonitor.log")
CHECK_SECONDS = 60


def log(message):
    """Write one line to the monitor's log."""
    with LOG.open("a", encoding="utf-8") as file:
        file.write("{} {}\n".format(time.strftime("%Y-%m-%d %H:%M:%S"), message))


def revive_services():
    """Start every watched service that does not run."""
    config = configparser.ConfigParser()
    config.read(str(CONFIG))
    for section in config.sections():
        unit = config.get(section, "servicename", fallback=section) + ".service"
        if subprocess.call(["systemctl", "is-active", "--quiet", unit]) == 0:
            continue
        status = subprocess.call(["systemctl", "start", unit])
        log("{} did not run; starting it {}".format(unit, "failed" if status else "succeeded"))


def excluded():
    """Return the names of the checks that management does not want."""
    try:
        data = json.loads(DATA.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    return {name.strip() for name in data.get("excluded_health_checks", "").split(",") if name.strip()}


def run_check(path, kind):
    """Run one check; its status says whether all is well, its output says what it saw."""
    started = time.time()
    try:
        done = subprocess.run(
            [str(path), kind],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
            timeout=CHECK_SECONDS,
        )
        success, message = done.returncode == 0, done.stdout.strip()
    except subprocess.TimeoutExpired:
        success, message = False, f"no result within {CHECK_SECONDS} s"
    return {
        "success": "true" if success else "false",
        "lastUpdate": str(int(started * 1000)),
        "lastRunDuration": str(int((time.time() - started) * 1000)),
        "message": message,
    }


def run_checks(kind):
    """Run the checks of one kind (the second line of a check names it) and write their results."""
    unwanted = excluded()
    results = {}
    for path in sorted(CHECKS.iterdir()):
        with path.open(encoding="utf-8") as file:
            lines = [file.readline(), file.readline()]
        if lines[1].strip() == "# kind: " + kind and path.name not in unwanted:
            results[path.stem] = run_check(path, kind)
    target = Path(RESULTS.format(kind))
    new = target.with_name(target.name + ".new")
    new.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(str(new), str(target))


def main():
    """Read the kind and run."""
    if len(sys.argv) != 2 or sys.argv[1] not in ("basic", "advanced"):
        sys.exit("usage: monitorServices.py basic|advanced")
    if sys.argv[1] == "basic":
        revive_services()
    run_checks(sys.argv[1])


if __name__ == "__main__":
    main()
