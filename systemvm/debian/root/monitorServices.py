#!/usr/bin/python3 -ES
"""Watch the router's services and run its health checks: ``monitorServices.py [basic|advanced]``; both without a word.

Called by cron as the databag ``monitorservice`` says. ``basic`` also starts services again that have died. The results
of ``/root/health_checks`` go to ``/root/<kind>_monitor_results.json`` and the names of what failed to
``/root/<kind>_failing_health_checks``, both of which management fetches.
"""

import configparser
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import IO, Dict, NoReturn, Optional, Set, Tuple

sys.dont_write_bytecode = True

from healthwords import GOOD, WORDS  # noqa: E402 (byte code is switched off first)

KINDS = ("basic", "advanced")
CONFIG = Path("/etc/monitor.conf")
DATA = Path("/root/health_checks_data.json")
CHECKS = Path("/root/health_checks")
RESULTS = "/root/{}_monitor_results.json"
FAILING = "/root/{}_failing_health_checks"
LOG = Path("/var/log/routerServiceMonitor.log")
CHECK_SECONDS = 60
# The first line of checks that need no interpreter of their own: its start is most of their time on a small VM.
OURS = b"#!/usr/bin/python3 -ES\n"
Result = Dict[str, str]


def log(message: str) -> None:
    """Write one line to the monitor's log: the time up to the comma is what management reads of it."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    with LOG.open("a", encoding="utf-8") as file:
        file.write("{},{:03d} {}\n".format(stamp, int(now * 1000) % 1000, message))


def entry(started: float, status: int, message: str) -> Result:
    """Return the result of one check; every value is a string."""
    return {
        "success": WORDS.get(status, WORDS[3]),
        "lastUpdate": str(int(started * 1000)),
        "lastRunDuration": "{:.3f}".format((time.time() - started) * 1000),
        "message": message,
    }


def runs(section: configparser.SectionProxy) -> bool:
    """Return whether a process of a watched service is the one of its pid file."""
    name = section.get("processname", "")
    try:
        wanted = Path(section.get("pidfile", "")).read_text(encoding="ascii").split()
    except (OSError, ValueError):
        wanted = []
    found = subprocess.run(["pidof", name], stdout=subprocess.PIPE, universal_newlines=True, check=False)
    return bool(set(wanted) & set(found.stdout.split()))


def watch_services() -> Dict[str, Result]:
    """Start every watched service that does not run; return a result for each."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(str(CONFIG))
    results = {}
    for name in config.sections():
        started = time.time()
        if runs(config[name]):
            results[name + ".service"] = entry(started, 0, "service is running")
            continue
        unit = config.get(name, "servicename", fallback=name) + ".service"
        active = subprocess.call(["systemctl", "is-active", "--quiet", unit]) == 0
        if active and runs(config[name]):  # somebody else has just started it
            results[name + ".service"] = entry(started, 0, "service is running")
            continue
        # A start joins what is under way, such as the restart of a live patch, which a restart would end.
        verb = "restart" if active else "start"
        status = subprocess.call(["systemctl", verb, unit])
        said = "{} did not run; starting it {}".format(unit, "failed" if status else "succeeded")
        log(said)
        results[name + ".service"] = entry(started, 1 if status else 0, said)
    return results


def excluded() -> Set[str]:
    """Return the names of the checks that management does not want."""
    try:
        names = json.loads(DATA.read_text(encoding="utf-8")).get("excluded_health_checks", [])
    except (OSError, ValueError, AttributeError):
        return set()
    return set(names)


def run_check(path: Path, kind: str) -> Optional[Result]:
    """Run one check: its status says whether all is well, its output what it saw. None: it is not of this kind."""
    started = time.time()
    try:
        with path.open("rb") as file:
            ours = file.readline() == OURS
        status, message = forked(path, kind) if ours else started_anew(path, kind)
    except subprocess.TimeoutExpired:
        status, message = 3, f"no result within {CHECK_SECONDS} s"
    except OSError as error:
        status, message = 3, f"cannot be started: {error.strerror}"
    return entry(started, status, message) if message or status else None


def started_anew(path: Path, kind: str) -> Tuple[int, str]:
    """Run a program; return its status and its output."""
    done = subprocess.run(
        [str(path), kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        timeout=CHECK_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout.strip()


def forked(path: Path, kind: str) -> Tuple[int, str]:
    """Run a Python program in a fork of this one; return its status and its output."""
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            become(path, kind, output)
        _, ended = os.waitpid(child, 0)
        output.seek(0)
        said = output.read().decode("utf-8", "replace").strip()
    if os.WIFEXITED(ended):
        return os.WEXITSTATUS(ended), said
    if os.WTERMSIG(ended) == signal.SIGALRM:
        raise subprocess.TimeoutExpired(str(path), CHECK_SECONDS)
    return 3, f"{said} (killed by signal {os.WTERMSIG(ended)})"


def become(path: Path, kind: str, output: IO[bytes]) -> NoReturn:
    """Be another Python program until its end, with all that it prints in a file."""
    status = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(CHECK_SECONDS)
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
        sys.argv = [str(path), kind]
        sys.path[0] = str(path.parent)
        runpy.run_path(str(path), run_name="__main__")
        status = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def write(path: str, text: str) -> None:
    """Bring a file to its content by rename."""
    new = Path(path + ".new")
    new.write_text(text, encoding="utf-8")
    os.replace(str(new), path)


def run_checks(kind: str) -> None:
    """Run the checks of one kind and write their results."""
    started = time.time()
    results = watch_services() if kind == "basic" else {}
    unwanted = excluded()
    for path in sorted(CHECKS.iterdir()):
        if path.name not in unwanted and path.is_file() and os.access(str(path), os.X_OK):
            result = run_check(path, kind)
            if result is not None:
                results[path.name] = result
    failing = sorted(name for name, result in results.items() if result["success"] != GOOD)
    ended = time.time()
    stamps = [time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment)) for moment in (started, ended)]
    results["lastRun"] = {
        "start": stamps[0],
        "end": stamps[1],
        "duration": "{:.3f}".format((ended - started) * 1000),
    }
    write(RESULTS.format(kind), json.dumps(results, indent=1, sort_keys=True) + "\n")
    if failing:
        write(FAILING.format(kind), ",".join(failing))
    elif os.path.exists(FAILING.format(kind)):
        os.remove(FAILING.format(kind))


def main() -> None:
    """Read the kind and run."""
    if len(sys.argv) > 2 or any(word not in KINDS for word in sys.argv[1:]):
        sys.exit("usage: monitorServices.py [basic|advanced]")
    for kind in sys.argv[1:] or KINDS:
        run_checks(kind)


if __name__ == "__main__":
    main()
