"""The server with CloudStack's own faults: for what has to be tested against a server that lies.

A client that believes such a server is wrong about a cloud; whoever writes one tries it here first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias

from bundle.errors import CheckFailed, SysvmError, UsageError
from bundle.version import overlap, span, spans
from harness.kvmagent import patch
from harness.kvmagent.patch import Versions
from harness.management import gate
from harness.management.inventory import Vm
from harness.management.server import ManagementServer, Patched, Restart, Tell, silent
from harness.network import Network

FaultName: TypeAlias = Literal[
    "always-forced", "failure-ignored", "once-a-tier", "balancers-forgotten", "no-turns", "agent-ignored",
    "believed", "any-order", "rules-believed", "silent-patch",
]  # fmt: skip
# The first release that patches live at all.
_FIRST = "4.17.0"


@dataclass(frozen=True)
class ServerFault:
    """A fault of CloudStack's server, and the releases that have it."""

    name: FaultName
    releases: str
    text: str


FAULTS: tuple[ServerFault, ...] = (
    ServerFault("always-forced", "4.17.0..", "a router is patched also where its scripts are the server's already"),
    ServerFault("failure-ignored", "4.17.0..", "a router that does not run or whose patch failed fails no restart"),
    ServerFault("once-a-tier", "4.17.0..", "restartVPC patches a router once for each tier, never without one"),
    ServerFault("balancers-forgotten", "4.18.2..", "the internal load balancers of a VPC are not patched"),
    ServerFault("no-turns", "4.17.0..", "two jobs may patch one VM at the same time"),
    ServerFault("agent-ignored", "4.17.0..", "an update of the agent alone is not seen"),
    ServerFault("believed", "4.17.0..", "the agent's word is believed: nobody asks afterwards what runs"),
    ServerFault("any-order", "4.17.0..", "routers of a pair are patched in any order, without waiting"),
    ServerFault("rules-believed", "4.17.0..", "rule files that the router dropped count as applied"),
    ServerFault("silent-patch", "4.17.0..", "patchSystemVm has a Scheduled event and no other; nothing is an alert"),
)  # fmt: skip


def faults_of(release: str) -> frozenset[FaultName]:
    """Return the faults of a release.

    Raises:
        UsageError: its server has no live patch.
    """
    asked = span(release)
    if asked[1] < span(_FIRST)[0]:
        raise UsageError(f"CloudStack {release} has no live patch (expected {_FIRST} or newer)")
    return frozenset(fault.name for fault in FAULTS if overlap(spans(fault.releases), asked))


def server_of(release: str, *, faithful: bool) -> type[ManagementServer]:
    """Return the class of a server: a sound one, or one that is faithful to CloudStack's release.

    Raises:
        UsageError: a faithful server of that release has no live patch.
    """
    if not faithful:
        return ManagementServer
    faults_of(release)
    return FaithfulServer


class FaithfulServer(ManagementServer):
    """A server that does what CloudStack's does, right or wrong."""

    def patch(self, vm: Vm, *, forced: bool = False, tell: Tell = silent) -> Patched:
        """Patch one VM, and believe the answer.

        Raises:
            CheckFailed: it is not running, or the agent said that the patch failed.
        """
        self._must_run(vm)
        tell(f"{vm.name}: patching")
        answer = patch.patch(vm.guest, self.bundle, forced=forced, dialect="upstream")
        self.events.emit(
            "patch", vm=vm.name, success=answer.success, details=answer.details, seconds=answer.seconds
        )
        if not answer.success:
            raise CheckFailed(f"{vm.name}: the live patch failed: {answer.details}")
        self.inventory.learn(vm.id, answer.template_version, answer.scripts_version)
        self.inventory.change(vm.id, software_version=self.version)
        return Patched(vm.name, answer.patched, answer.details, answer.seconds)

    def restart_vpc(
        self, vpc_id: str, *, cleanup: bool = False, make_redundant: bool = False, live_patch: bool = False,
        tell: Tell = silent,
    ) -> Restart:  # fmt: skip
        """Restart a VPC; with ``live_patch`` each of its tiers is restarted so, whatever becomes of it.

        Raises:
            UsageError: there is no such VPC.
            Refused: the combination of parameters forbids it.
        """
        vpc = self.inventory.vpc(vpc_id)
        if not live_patch or cleanup or (make_redundant and not vpc.redundant):
            return super().restart_vpc(
                vpc_id, cleanup=cleanup, make_redundant=make_redundant, live_patch=live_patch, tell=tell
            )
        for tier in self.inventory.tiers(vpc_id):
            with suppress(SysvmError):
                self.restart_network(tier.id, live_patch=True, tell=tell)
        self.inventory.restart_is_due([vpc], False)
        return Restart(live=True)

    def _patch_in_order(self, routers: Sequence[Vm], redundant: bool, tell: Tell) -> Iterator[Patched]:
        """Patch routers as they come; one that fails is passed over."""
        forgets = "balancers-forgotten" in faults_of(self.release) and any(vm.vpc for vm in routers)
        for vm in routers:
            if forgets and vm.kind.family == "balancer":
                continue
            with suppress(SysvmError):
                yield self.patch(vm, forced=True, tell=tell)

    def _send_rules(self, routers: Sequence[Vm], declared: Network | None, tell: Tell, *, anew: bool) -> int:
        """Send rules; what a router dropped counts as applied, and one behind the gate fails the restart."""
        for vm in routers:
            known = self.inventory.vm(vm.id)
            stored = Versions(known.template_version, known.scripts_version)
            if gate.refusal(stored, self.bundle.signature, self.minimum_template):
                raise CheckFailed("Failed to restart network")
        try:
            return super()._send_rules(routers, declared, tell, anew=anew)
        except CheckFailed:
            return 0

    @contextmanager
    def turn(self, vm: Vm, tell: Tell = silent) -> Iterator[None]:
        """Let everybody in at once."""
        yield
