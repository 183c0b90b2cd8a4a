"""The monitor of a router: how it runs the health checks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3] / "systemvm/debian/root"
OURS = "#!/usr/bin/python3 -ES\n"
# Two times, for a check leaves nothing of itself behind; arguments: the folder of the monitor, a check, its seconds.
RUN = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import monitorServices as monitor
monitor.CHECK_SECONDS = int(sys.argv[3])
runs = [monitor.run_check(Path(sys.argv[2]), "basic") for _ in range(int(sys.argv[4]))]
print(json.dumps([row and [row["success"], row["message"]] for row in runs]))
"""


def told(folder: Path, text: str, seconds: int = 60, times: int = 2) -> list[str] | None:
    """Return what the monitor says of a check: the same each time, or the test fails."""
    (folder / "beside.py").write_text("WORD = 'found'\n")
    path = folder / "own_check.py"
    path.write_text(text)
    path.chmod(0o755)
    words = [sys.executable, "-ES", "-c", RUN, str(ROOT), str(path), str(seconds), str(times)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    first, *others = json.loads(done.stdout)
    assert others == [first] * (times - 1)
    return first


@pytest.mark.parametrize(
    ("text", "ended"),
    [
        ("import sys; print(sys.argv[1:])", ["SUCCESS", "['basic']"]),
        ("import sys; print('low'); sys.exit(2)", ["WARNING", "low"]),
        ("import sys; sys.exit('usage: own')", ["FAILED", "usage: own"]),
        ("import sys; sys.exit()", None),
        ("import os; os.system('echo child; echo error >&2')", ["SUCCESS", "child\nerror"]),
        ("import os; os.kill(os.getpid(), 9)", ["UNKNOWN", " (killed by signal 9)"]),
        ("import beside; print(beside.WORD)", ["SUCCESS", "found"]),
        ("import os; os.chdir('/'); print(os.getcwd())", ["SUCCESS", "/"]),
    ],
)
def test_a_check_of_ours_ends_as_a_program_of_its_own_would(tmp_path, text, ended):
    assert told(tmp_path, OURS + text + "\n") == ended


def test_a_check_of_ours_that_breaks_says_where(tmp_path):
    word, said = told(tmp_path, OURS + "1 / 0\n")
    assert word == "FAILED"
    assert said.endswith("ZeroDivisionError: division by zero")


def test_a_check_of_ours_that_does_not_end_has_no_result(tmp_path):
    text = OURS + "import time; time.sleep(30)\n"
    assert told(tmp_path, text, seconds=1, times=1) == ["UNKNOWN", "no result within 1 s"]


def test_a_check_of_somebody_else_has_its_own_interpreter(tmp_path):
    assert told(tmp_path, "#!/bin/sh\necho own $1; exit 1\n") == ["FAILED", "own basic"]


def test_every_check_that_we_ship_is_spared_an_interpreter():
    checks = sorted((ROOT / "health_checks").glob("*.py"))
    assert checks
    assert [path.name for path in checks if not path.read_text().startswith(OURS)] == []


# Arguments: the folder of the monitor, its configuration.
WATCH = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import monitorServices as monitor
monitor.CONFIG, monitor.LOG = Path(sys.argv[2]), Path(sys.argv[2]).with_name("log")
print(json.dumps({name: row["message"] for name, row in monitor.watch_services().items()}))
"""


@pytest.mark.parametrize(
    ("active", "appears", "asked", "message"),
    [
        (False, False, ["start"], "dnsmasq.service did not run; starting it succeeded"),
        (True, False, ["restart"], "dnsmasq.service did not run; starting it succeeded"),
        (True, True, [], "service is running"),
    ],
)
def test_a_start_that_is_under_way_is_joined_and_not_ended(tmp_path, active, appears, asked, message):
    """As when a live patch restarts the service that is looked at."""
    pid, log = tmp_path / "dnsmasq.pid", tmp_path / "asked"
    log.touch()
    (tmp_path / "monitor.conf").write_text(
        f"[dnsmasq]\nprocessname=dnsmasq\nservicename=dnsmasq\npidfile={pid}\n"
    )
    up = f"echo 7 >{pid};" if appears else ""
    programs = {
        "systemctl": f"if [ $1 = is-active ]; then {up} exit {0 if active else 3}; fi; echo $1 >>{log}",
        "pidof": "echo 7",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-ES", "-c", WATCH, str(ROOT), str(tmp_path / "monitor.conf")],
        capture_output=True, text=True, check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    )  # fmt: skip
    assert json.loads(done.stdout) == {"dnsmasq.service": message}
    assert log.read_text().split() == asked
