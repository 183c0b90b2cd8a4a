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
