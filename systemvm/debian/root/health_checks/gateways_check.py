#!/usr/bin/python3 -ES
"""Ask every gateway of the router for an echo."""

import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.append("/opt/cloud/bin")

from cloudrules import health  # noqa: E402 (byte code is switched off first)

TRIES = 5


def answers(gateway: str) -> bool:
    """Return whether a gateway answers one of a few echo requests."""
    command = ["ping", "-c", "1", "-W", "1", gateway]
    for _attempt in range(TRIES):
        if subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0:
            return True
    return False


def check() -> health.Answer:
    """Say which do not answer."""
    found = health.sent("gateways")
    gateways = found[0].get("gatewaysIps", "").split() if found else []
    silent = [gateway for gateway in gateways if not answers(gateway)]
    return health.verdict(
        [f"{gateway} does not answer" for gateway in silent], f"{len(gateways)} gateways answer"
    )


if __name__ == "__main__":
    health.main("basic", check)
