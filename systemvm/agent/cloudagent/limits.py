"""Limits of the agent's servers: how many at once, and for how long. Keys of agent.properties change it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Dict


@dataclass(frozen=True)
class Limits:
    """Caps and time limits, in connections and in seconds; ``limit.<name>`` in agent.properties sets one."""

    # From a connection to the whole request.
    request: int = 10
    # Connections to the console port, open at once: in all, and from one address.
    consoles: int = 256
    consoles_each: int = 64
    # Without a byte from browser or VNC server, a console is closed.
    console_idle: int = 300
    # Uploads at once. The web server in front is the only client.
    uploads: int = 16
    # Uploads that are announced and did not come yet.
    announced: int = 1024
    # For each 256 KiB of an upload or a copy.
    block: int = 60
    # For mount(8).
    mount: int = 60
    # Commands of the management server at once.
    commands: int = 32

    @staticmethod
    def of(values: Dict[str, str]) -> "Limits":
        """Return the limits that the properties say.

        Raises:
            ValueError: one is no whole number from 1 to a million.
        """
        found = {}
        for field in fields(Limits):
            key = f"limit.{field.name}"
            value = values.get(key)
            if value is None:
                continue
            if not (value.isascii() and value.isdigit() and 0 < int(value[:8]) <= 1000000):
                raise ValueError(f"{key}={value} is no whole number from 1 to 1000000")
            found[field.name] = int(value)
        return Limits(**found)
