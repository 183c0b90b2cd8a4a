"""The agent ends when it is told to, whatever it is at."""

import os
import signal
import subprocess
import sys

from tests.guest.agent.server import AGENT

# What wait_for of a Python before 3.12 does when its result comes together with the cancellation.
WORK = """
import asyncio
from cloudagent.__main__ import until_stopped

async def work():
    print("working", flush=True)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        pass
    await asyncio.sleep(60)

try:
    until_stopped(work())
except asyncio.CancelledError:
    print("stopped")
"""


def test_a_lost_cancellation_does_not_keep_the_agent_alive():
    with subprocess.Popen(
        [sys.executable, "-B", "-c", WORK],
        cwd=AGENT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(AGENT)},
    ) as process:
        assert process.stdout.readline() == "working\n"
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=10)
    assert (process.returncode, output) == (0, "stopped\n")


HALF = """
import asyncio, sys
from pathlib import Path
from cloudagent.__main__ import until_stopped
from cloudagent.sink import Sink

async def upload():
    async with Sink(Path(sys.argv[1]) / "vol-1") as sink:
        await sink.write(b"half of it")
        print("half", flush=True)
        await asyncio.sleep(60)

async def work():
    other = asyncio.ensure_future(upload())
    await asyncio.sleep(60)

try:
    until_stopped(work())
except asyncio.CancelledError:
    print("stopped")
"""


def test_what_an_upload_has_half_written_goes_with_the_agent(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-B", "-c", HALF, tmp_path],
        cwd=AGENT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(AGENT)},
    ) as process:
        assert process.stdout.readline() == "half\n"
        assert [path.name for path in tmp_path.iterdir()] == ["vol-1.part"]
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=10)
    assert (process.returncode, output) == (0, "stopped\n")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_does_not_say_how_large_it_is_is_not_taken_for_full():
    ask = (
        "import asyncio; from pathlib import Path; from cloudagent.sink import free_space; "
        "print(asyncio.get_event_loop_policy().new_event_loop().run_until_complete(free_space(Path('/proc'))))"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", ask], cwd=AGENT, stdout=subprocess.PIPE, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(AGENT)},
    )  # fmt: skip
    assert int(done.stdout) == sys.maxsize
