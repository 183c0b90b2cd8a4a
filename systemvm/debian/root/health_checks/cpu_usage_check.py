#!/usr/bin/python3 -ES
"""Compare the use of the processors with what management allows."""

import sys
import time
from pathlib import Path
from typing import Tuple

sys.dont_write_bytecode = True
sys.path.append("/opt/cloud/bin")

from cloudrules import health  # noqa: E402 (byte code is switched off first)

STAT = Path("/proc/stat")
SECONDS = 1


def counters() -> Tuple[int, int]:
    """Return the ticks that the processors were idle, and all ticks."""
    words = [int(word) for word in STAT.read_text(encoding="ascii").split("\n")[0].split()[1:9]]
    return words[3] + words[4], sum(words)


def check() -> health.Answer:
    """Say how much is in use."""
    limits = health.sent("systemThresholds")
    if not limits:
        return health.SUCCESS, "management sent no limit"
    idle, everything = counters()
    time.sleep(SECONDS)
    idle_later, everything_later = counters()
    passed = max(everything_later - everything, 1)
    used = 100.0 * (1 - (idle_later - idle) / passed)
    return health.in_use(used, float(limits[0]["maxCpuUsage"]))


if __name__ == "__main__":
    health.main("basic", check)
