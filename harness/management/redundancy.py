"""Redundant pairs: the backup first, checked, then the primary, and never two primaries."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bundle.errors import CheckFailed
from harness.host import wait
from harness.management.health import RedundancyRole
from harness.management.inventory import Vm

# Seconds for VRRP to settle after a router of the pair was patched.
SETTLE_DEADLINE = 60.0
_TICK = 0.05


class RedundancyGroup:
    """The routers of a redundant network, asked for their roles."""

    def __init__(
        self, routers: Sequence[Vm], ask: Callable[[Vm], RedundancyRole], deadline: float = SETTLE_DEADLINE
    ) -> None:
        """Take the routers of one network; ``ask`` returns a router's role."""
        self._routers = tuple(routers)
        self._ask = ask
        self._deadline = deadline

    def in_order(self) -> tuple[Vm, ...]:
        """Return the routers in the order in which they are patched: the primary last.

        Raises:
            CheckFailed: there is not exactly one primary.
        """
        roles = self._roles()
        if _primaries(roles) != 1:
            raise CheckFailed(
                f"not patching a pair without exactly one primary: {_readable(roles)}",
                hint="let the pair settle, then restart the network",
            )
        return tuple(sorted(self._routers, key=lambda vm: roles[vm.name] == "PRIMARY"))

    def settle(self) -> None:
        """Wait until the pair has one primary again and nobody is at fault.

        Raises:
            CheckFailed: there are two primaries, or the pair does not settle in time.
        """
        seen: dict[str, RedundancyRole] = {}

        def settled() -> bool:
            nonlocal seen
            seen = self._roles()
            return _primaries(seen) == 1 and set(seen.values()) <= {"PRIMARY", "BACKUP"}

        try:
            wait.until(settled, "the pair to settle", self._deadline, tick=_TICK)
        except wait.DeadlineExceeded:
            raise CheckFailed(
                f"the pair did not settle within {self._deadline:g} s: {_readable(seen)}"
            ) from None

    def _roles(self) -> dict[str, RedundancyRole]:
        roles = {vm.name: self._ask(vm) for vm in self._routers}
        if _primaries(roles) > 1:
            # The roles are asked one after the other: a failover between two questions looks like two primaries.
            roles = {vm.name: self._ask(vm) for vm in self._routers}
        if _primaries(roles) > 1:
            raise CheckFailed(f"two primaries answer for the same addresses: {_readable(roles)}")
        return roles


def _primaries(roles: dict[str, RedundancyRole]) -> int:
    return sum(role == "PRIMARY" for role in roles.values())


def _readable(roles: dict[str, RedundancyRole]) -> str:
    return ", ".join(f"{name} is {role}" for name, role in roles.items())
