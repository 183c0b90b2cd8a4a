"""Orders of shipped networks for tests, and what they hold."""

from __future__ import annotations

import copy
import tomllib
from importlib.resources import files
from typing import Any

from harness import network
from harness.network import Direct, Orders, Plug
from harness.network.transport import DeliveryStep

SHIPPED = sorted(file.name[:-5] for file in (files("harness.network") / "shipped").iterdir())
RELEASES = ("4.14.0", "4.15", "4.16", "4.17", "4.18", "4.19.1", "4.19", "4.20.0", "4.20", "4.21", "4.22")
VERSION = ("Cloudstack Release 4.22.0", "ab12")
TIER = "guest_network"


def document(name: str = "router") -> dict[str, Any]:
    return tomllib.loads((files("harness.network") / "shipped" / f"{name}.toml").read_text("utf-8"))


def orders(name: str = "router", release: str = "4.22", **tables: object) -> Orders:
    declared = network.parse({**document(name), **copy.deepcopy(tables)})
    return Orders(declared, release, 1761830000000, VERSION)


def words(steps: tuple[DeliveryStep, ...]) -> list[str | list[str]]:
    """Return a word for each NIC and each single file, and a list of words for each aggregate."""
    found: list[str | list[str]] = []
    for step in steps:
        if isinstance(step, Plug):
            found.append(f"plug {step.device}")
        elif isinstance(step, Direct):
            found.append(step.bag.stem)
        else:
            found.append([bag.stem for bag in step.bags])
    return found


def sent(stem: str, made: Orders, number: int = 0) -> dict[str, Any]:
    return [bag.content for bag in network.bags_of(made.start()) if bag.stem == stem][number]
