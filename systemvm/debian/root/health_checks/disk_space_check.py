#!/usr/bin/python3 -ES
"""Compare the free space of the root file system with what management asks for."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.append("/opt/cloud/bin")

from cloudrules import health  # noqa: E402 (byte code is switched off first)


def check() -> health.Answer:
    """Say how much is free."""
    limits = health.sent("systemThresholds")
    if not limits:
        return health.SUCCESS, "management sent no limit"
    found = os.statvfs("/")
    free = found.f_bavail * found.f_frsize / 1024.0 / 1024.0
    least = float(limits[0]["minDiskNeeded"])
    return (
        health.SUCCESS if free >= least else health.FAILED,
        f"{free:.0f} MB free, at least {least:.0f} MB needed",
    )


if __name__ == "__main__":
    health.main("basic", check)
