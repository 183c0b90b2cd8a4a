"""CloudMonkey, which ``nox -s cloudmonkey -- FILE`` names: a program in Go that no package registry of Python has."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = "SYSVM_CLOUDMONKEY"
REASON = "nox -s cloudmonkey -- FILE names the program that this needs"


@dataclass(frozen=True)
class Told:
    """What CloudMonkey printed, and its exit status."""

    status: int
    text: str

    @property
    def answer(self) -> dict[str, Any]:
        """Its answer; ``{}`` where it printed nothing."""
        read: dict[str, Any] = json.loads(self.text) if self.text.strip() else {}
        return read


@dataclass(frozen=True)
class CloudMonkey:
    """CloudMonkey as an account, with a home of its own in which it keeps the commands that it discovered."""

    url: str
    account: Mapping[str, str]
    home: Path

    def __call__(self, *words: str, secret: str = "") -> Told:
        """Run a command, in its own words: ``list systemvms``, ``patch systemvm id=…``."""
        keys = ["-u", self.url, "-k", self.account["apikey"], "-s", secret or self.account["secret"]]
        done = subprocess.run(
            [os.environ[PROGRAM], *keys, "-o", "json", *words],
            env={"PATH": os.environ["PATH"], "HOME": str(self.home)},
            text=True,
            timeout=1200,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if words[0] != "sync" else subprocess.DEVNULL,
            check=False,
        )
        return Told(done.returncode, done.stdout)


def discovered(told: Told) -> int:
    """Return how many commands ``sync`` found.

    Raises:
        ValueError: it found none.
    """
    words = told.text.split()
    if told.status != 0 or words[:1] != ["Discovered"]:
        raise ValueError(f"sync ended with status {told.status}: {told.text}")
    return int(words[1])
