"""Input of a part: what it renders and applies."""

from __future__ import annotations

from pathlib import Path
from typing import FrozenSet, List, NamedTuple, Tuple

from . import topology
from .messages import Message
from .store import Bag, Bags
from .topology import Topology

BOOT_DONE = Path("/var/cache/cloud/boot_up_done")
PRIMARY_MARK = Path("/run/cloud/primary")


class State(NamedTuple):
    """The databags, what they say about the VM, and the messages that led to them.

    ``primary`` is false on the member of a redundant pair that stands by; ``booting`` is true until the services have
    been started for the first time, so that parts write files and leave the services alone.
    """

    bags: Bags
    topology: Topology
    messages: Tuple[Message, ...]
    primary: bool
    booting: bool

    @property
    def kinds(self) -> FrozenSet[str]:
        """The types of the messages."""
        return frozenset(message["type"] for message in self.messages)

    @property
    def everything(self) -> bool:
        """True when every entry is to be looked at, not just the ones that the messages name."""
        return "cmdline" in self.kinds

    def of(self, kind: str) -> List[Message]:
        """Return the messages of one type."""
        return [message for message in self.messages if message["type"] == kind]

    def bag(self, name: str) -> Bag:
        """Return a databag without its name; an absent one is empty."""
        return {key: value for key, value in self.bags.get(name, {}).items() if key != "id"}


def make(bags: Bags, messages: Tuple[Message, ...]) -> State:
    """Return the state that databags describe on this machine."""
    found = topology.read(bags)
    return State(
        bags=bags,
        topology=found,
        messages=messages,
        primary=not found.redundant or PRIMARY_MARK.exists(),
        booting=not BOOT_DONE.exists(),
    )
