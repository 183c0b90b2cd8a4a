#!/usr/bin/python3 -ES
"""Compare the reservations of the DHCP server with the machines that management knows."""

import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.append("/opt/cloud/bin")

from cloudrules import health  # noqa: E402 (byte code is switched off first)

HOSTS = Path("/etc/dhcphosts.txt")


def check() -> health.Answer:
    """Say whose reservation is missing."""
    lines = [line.split(",") for line in health.text(HOSTS).split("\n") if line]
    # A host that differs from its network has a word "set:<tag>" between its MAC and its address.
    there = {(words[0].lower(), word) for words in lines for word in words[1:3]}
    machines = [row for row in health.sent("virtualMachines") if row.get("dhcp") == "true"]
    missing = [row for row in machines if (row["macAddress"].lower(), row["ip"]) not in there]
    return health.verdict(
        [
            "no reservation for {} ({}, {})".format(row["vmName"], row["macAddress"], row["ip"])
            for row in missing
        ],
        f"{len(machines)} machines have their reservations",
    )


if __name__ == "__main__":
    health.main("advanced", check)
