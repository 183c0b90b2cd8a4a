#!/usr/bin/python3 -ES
"""Compare the use of memory with what management allows."""

import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.append("/opt/cloud/bin")

from cloudrules import health  # noqa: E402 (byte code is switched off first)

MEMORY = Path("/proc/meminfo")


def check() -> health.Answer:
    """Say how much is in use."""
    limits = health.sent("systemThresholds")
    if not limits:
        return health.SUCCESS, "management sent no limit"
    lines = [line.split() for line in MEMORY.read_text(encoding="ascii").split("\n") if line]
    sizes = {words[0].rstrip(":"): int(words[1]) for words in lines}
    used = 100.0 * (1 - sizes["MemAvailable"] / sizes["MemTotal"])
    return health.in_use(used, float(limits[0]["maxMemoryUsage"]))


if __name__ == "__main__":
    health.main("basic", check)
