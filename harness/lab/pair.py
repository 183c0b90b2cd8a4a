"""A redundant pair of routers on common segments, frozen and restored together.

A pair is two system VMs. The tenant guest belongs to the first one, and the middle of every segment lies in the tenant
guest's QEMU, so a router that loses its power takes nothing but itself along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from bundle.errors import InfrastructureError
from harness import network
from harness.host import slots, wait
from harness.host.ports import PortReservations
from harness.lab.golden_maker import ingredients, require, send_start
from harness.lab.lab import Lab
from harness.lab.logs import keep_consoles
from harness.management.health import RedundancyRole, role
from harness.network import Network
from harness.record import progress
from harness.traffic import proofs
from harness.vm import boot, golden
from harness.vm.around import pair_around
from harness.vm.system import SystemVm
from harness.vm.tenant.tenant import Tenant
from harness.vm.topology import Topology

T = TypeVar("T")
# Folders of the two routers in a golden snapshot, and the ends of their names in a run.
_PLACES = ("first", "second")
# keepalived takes over after three missed signs of life and a second or so.
SETTLE_DEADLINE = 60.0


@dataclass
class RouterPair:
    """A running pair.

    Attributes:
        network: what it was told.
        routers: both, whatever role they have.
        ports: of the cables between them.
        reservation: of what both take.
    """

    network: Network
    routers: tuple[SystemVm, SystemVm]
    ports: PortReservations
    reservation: slots.Reservation

    @property
    def tenants(self) -> dict[str, Tenant]:
        """The hosts on the segments."""
        return self.routers[0].tenants

    @property
    def outside(self) -> SystemVm:
        """The router that leads from loopback to the public addresses, whichever of the two has them now."""
        return self.routers[0]

    def roles(self) -> dict[str, RedundancyRole]:
        """Return the role of each router that runs, by its name."""
        return {vm.name: role(vm.guest) for vm in self.routers if vm.machine.alive()}

    def primary(self) -> SystemVm:
        """Return the router that has the addresses.

        Raises:
            InfrastructureError: there is none, or more than one.
        """
        return self._only("PRIMARY")

    def backup(self) -> SystemVm:
        """Return the router that waits.

        Raises:
            InfrastructureError: there is none, or more than one.
        """
        return self._only("BACKUP")

    def settle(self, deadline: float = SETTLE_DEADLINE) -> None:
        """Wait until one router that runs is primary and all others are backups.

        The deadline is later by as much as the routers wait for a core of the host.

        Raises:
            InfrastructureError: that does not come in time; says which roles were seen.
        """
        seen: dict[str, RedundancyRole] = {}
        stretches = [vm.machine.stretch() for vm in self.routers]

        def stretch() -> float:
            return max(each() for each in stretches)

        def settled() -> bool:
            nonlocal seen
            seen = self.roles()
            return sorted(seen.values(), reverse=True) == ["PRIMARY", *["BACKUP"] * (len(seen) - 1)]

        try:
            wait.until(settled, "the pair to settle", deadline, tick=0.05, stretch=stretch)
        except wait.DeadlineExceeded:
            late = deadline * stretch()
            raise InfrastructureError(f"the pair did not settle within {late:.4g} s: {seen}") from None

    def prove(self) -> None:
        """Make sure that the pair answers every rule, whichever router is primary.

        Raises:
            CheckFailed: a rule is not answered as declared.
        """
        require(proofs.prove(self.outside, self.network))

    def stop(self) -> None:
        """End all machines and remove what they left."""
        for vm in self.routers:
            vm.stop()
        self.give_back()

    def give_back(self) -> None:
        """Let others have the ports and the room of machines that have ended."""
        self.ports.release()
        self.reservation.release()

    def _only(self, wanted: RedundancyRole) -> SystemVm:
        roles = self.roles()
        found = [vm for vm in self.routers if roles.get(vm.name) == wanted]
        if len(found) != 1:
            raise InfrastructureError(f"the pair has {len(found)} routers with role {wanted}: {roles}")
        return found[0]


@contextmanager
def open_pair(lab: Lab, name: str, declared: str = "redundant") -> Iterator[RouterPair]:
    """Yield a fresh copy of a pair, from its golden snapshot; the snapshot is made when there is none.

    Args:
        lab: of the release that the pair runs.
        name: short name, unique in the run.
        declared: name or file of the network.
    """
    maker = _PairMaker(lab, network.load(declared))
    parts = ingredients(
        lab.image, lab.old_bundle, lab.host, lab.engine, maker.plans, maker.network, lab.old.name
    )
    with lab.narrator.step("golden snapshot of the pair"):
        snapshot = golden.get(golden.key_of(parts), maker.make, parts)
    pair = maker.restore(name, snapshot)
    try:
        yield pair
    finally:
        try:
            for vm in pair.routers:
                lab.keep_logs(vm, f"{name}/{vm.name}")
        finally:
            pair.stop()


@dataclass(frozen=True)
class _PairMaker:
    """Starts pairs of one lab, from cold or from a snapshot."""

    lab: Lab
    network: Network

    @property
    def plans(self) -> tuple[Topology, Topology]:
        """The topologies of both routers, without cables."""
        return pair_around(self.network, self.lab.old.name)

    def make(self, folder: Path) -> dict[str, Any]:
        """Boot a pair, give it its rules, see that they are answered, and freeze it."""
        public_key = golden.make_key(folder)
        key = folder / golden.KEY_NAME
        folders = [folder / place for place in _PLACES]
        for place in folders:
            place.mkdir()
            place.chmod(0o711)  # QEMU's user passes through
        pair = self._start(
            "golden",
            lambda number, called, plan: self.lab.engine.start(
                called, plan, self.lab.image, key, folders[number], reserved=True
            ),
            resume=False,
        )
        step = self.lab.narrator.step
        try:
            with step("boot the pair"):
                _both(pair, lambda vm: self._boot(vm, public_key))
                for tenant in pair.tenants.values():
                    tenant.wait_ready()
            with step("apply the rules to both"):
                views = {
                    pair.routers[0].name: self.network,
                    pair.routers[1].name: self.network.second_router(),
                }
                _both(pair, lambda vm: send_start(vm, views[vm.name], self.lab.old.name))
            with step("settle and prove the rules"):
                pair.settle()
                pair.prove()
            primary = pair.routers.index(pair.primary())
            with step("freeze"):
                self._freeze(pair, folders)
        except BaseException:
            for vm in pair.routers:
                keep_consoles(vm, self.lab.results, "golden")
            pair.stop()
            raise
        image = self.lab.image
        return {
            "release": self.lab.old.name,
            "type": f"redundant {self.network.type}",
            "primary": primary,
            "needs": [str(path) for path in image.files()],
        }

    def restore(self, name: str, snapshot: golden.Golden) -> RouterPair:
        """Return a copy of a snapshot: the primary comes first, so that the backup never misses it."""
        engine, image = self.lab.engine, self.lab.image
        return self._start(
            name,
            lambda number, called, plan: engine.restore(
                called, plan, image, snapshot.ssh_key, snapshot.folder / _PLACES[number], reserved=True
            ),
            resume=True,
            first=int(snapshot.facts["primary"]),
        )

    def _start(
        self, name: str, start: Callable[[int, str, Topology], SystemVm], *, resume: bool, first: int = 0
    ) -> RouterPair:
        """Lay the cables and start both routers, the one with number ``first`` first."""
        one, two = self.plans
        need = self.lab.engine.need
        # For both at once: two pairs that had their first routers could wait for each other's room for ever.
        reservation = slots.reserve(need(one, resume=resume) + need(two, resume=resume), name)
        ports = PortReservations()
        started: dict[int, SystemVm] = {}
        try:
            names = [f"{name}-{place}" for place in _PLACES]
            # The tenant guest is the first router's, and so are the segments.
            owner, backend = self.lab.engine.domain(names[0]), self.lab.engine.network_backend
            cables = tuple(
                (device, backend.cable(owner, device, ports.take, "peer")) for device in one.segments
            )
            plans = (replace(one, peer_cables=cables), replace(two, own_cables=cables))
            for number in sorted(range(2), key=lambda number: number != first):
                started[number] = start(number, names[number], plans[number])
        except BaseException:
            for vm in started.values():
                vm.stop()
            ports.release()
            reservation.release()
            raise
        return RouterPair(self.network, (started[0], started[1]), ports, reservation)

    def _boot(self, vm: SystemVm, public_key: str) -> None:
        boot.boot(
            vm.machine, vm.guest, cmdline=vm.topology.cmdline(public_key, self.lab.old), release=self.lab.old,
            bundle=self.lab.old_bundle, public_key=public_key, progress=lambda done: progress.say(f"{vm.name}: {done}"),
        )  # fmt: skip

    def _freeze(self, pair: RouterPair, folders: list[Path]) -> None:
        """Stop all machines at one moment, then write their states."""
        for vm in pair.routers:
            vm.guest.run("sync")
            vm.guest.close()
            vm.machine.wait_idle()
        for vm in pair.routers:
            vm.pause()
        for vm, folder in zip(pair.routers, folders, strict=True):
            self.lab.engine.freeze(vm, folder)
        pair.give_back()


def _both(pair: RouterPair, act: Callable[[SystemVm], T]) -> list[T]:
    """Do something to both routers at once."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(act, pair.routers))
