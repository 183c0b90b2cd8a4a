#!/usr/bin/python3 -ES
"""Compare the names that DNS answers with the machines that management knows."""

import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.append("/opt/cloud/bin")

from cloudrules import health  # noqa: E402 (byte code is switched off first)

NAMES = Path("/etc/dnsmasq-hosts.txt")


def check() -> health.Answer:
    """Say whose name is missing."""
    there = {tuple(line.split()) for line in health.text(NAMES).split("\n")}
    machines = [row for row in health.sent("virtualMachines") if row.get("dns") == "true"]
    missing = [row for row in machines if (row["ip"], row["vmName"]) not in there]
    return health.verdict(
        ["no name {} for {}".format(row["vmName"], row["ip"]) for row in missing],
        f"{len(machines)} machines have their names",
    )


if __name__ == "__main__":
    health.main("advanced", check)
