#!/usr/bin/python3 -ES
"""Called by keepalived when this router of a redundant pair becomes primary, backup or faulty."""

import sys

sys.dont_write_bytecode = True

from cloudrules import engine, system  # noqa: E402 (byte code is switched off first)
from cloudrules.errors import Failed  # noqa: E402 (byte code is switched off first)
from cloudrules.state import PRIMARY_MARK  # noqa: E402 (byte code is switched off first)

FAILOVER_UNITS = ("dnsmasq.service",)
CONNTRACKD_COMMANDS = {
    # What the primary knows of flows goes into the kernel, then to the other router.
    "primary": ("-c", "-f", "-R", "-B"),
    "backup": ("-t", "-n"),
    "fault": (),
}


def become(role: str) -> None:
    """Bring addresses, routes and services to what a role needs."""
    system.log(f"becoming {role}")
    if role == "primary":
        PRIMARY_MARK.parent.mkdir(parents=True, exist_ok=True)
        PRIMARY_MARK.touch()
    elif PRIMARY_MARK.exists():
        PRIMARY_MARK.unlink()
    _tell_conntrackd(role)
    engine.reapply()
    for unit in FAILOVER_UNITS:
        system.unit("start" if role == "primary" else "stop", unit)


def _tell_conntrackd(role: str) -> None:
    """Exchange flows with the other router. The role changes without them, too: some flows are lost then."""
    if not system.installed("conntrackd") or not system.unit_active("conntrackd.service"):
        return
    for option in CONNTRACKD_COMMANDS[role]:
        try:
            system.run(["conntrackd", option])
        except Failed as error:
            system.log(f"flows were not exchanged: {error}")


def main() -> None:
    """Read the role from the command line."""
    if len(sys.argv) != 2 or sys.argv[1] not in CONNTRACKD_COMMANDS:
        sys.exit("usage: redundant.py primary|backup|fault")
    try:
        become(sys.argv[1])
    except Failed as error:
        system.log(f"cannot become {sys.argv[1]}: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
