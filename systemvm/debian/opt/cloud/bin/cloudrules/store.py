"""The databags: JSON files in ``/etc/cloudstack`` that hold the state which management sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

from . import system
from .errors import Failed

FOLDER = Path("/etc/cloudstack")

Bag = Dict[str, Any]
Bags = Dict[str, Bag]


def load(folder: Path = FOLDER) -> Bags:
    """Read every databag.

    Raises:
        Failed: one of them is not what this module wrote.
    """
    bags = {}
    for path in sorted(folder.glob("*.json")):
        try:
            bag = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise Failed(f"the databag {path} is damaged: {error}") from None
        if not isinstance(bag, dict):
            raise Failed(f"the databag {path} is damaged: not an object")
        bags[path.stem] = bag
    return bags


def dump(name: str, bag: Bag) -> str:
    """Return the text of a databag's file: the same state always gives the same text."""
    return json.dumps(dict(bag, id=name), indent=1, sort_keys=True) + "\n"


def save(old: Bags, new: Bags, folder: Path = FOLDER) -> None:
    """Write the databags that differ. Some hold passwords and keys, so only root can read them."""
    for name, bag in new.items():
        if old.get(name) != bag:
            system.write_text(folder / (name + ".json"), dump(name, bag), 0o600)
