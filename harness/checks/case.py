"""A case as a check sees it: the observations of one patch, and what was expected of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from bundle import catalogue
from bundle.services import reads_any, reloaded
from harness.checks.shipped import ShippedFiles
from harness.kvmagent.patch import PatchAnswer
from harness.observe.observation import Observation
from harness.site.vm_agent_link import VmAgentLink
from harness.traffic.measurement import Budget

# "patched": it succeeded and changed the VM. "kept": the VM is as before, because the patch failed and was rolled
# back, was refused, or had nothing to do.
Expectation: TypeAlias = Literal["patched", "kept"]


def _graceful() -> frozenset[str]:
    """Return the services that may keep their main process when it starts new workers: the catalogue's rows say so."""
    return frozenset(reloaded(catalogue.load().service_rows))


# A host that stands still for so long lets connections time out, and clocks of its guests fall behind, by itself.
LONG_STALL_MS = 1000.0


@dataclass(frozen=True)
class Case:
    """One live patch as the checks see it.

    Attributes:
        vm_type: type of the VM.
        expected: what the patch should have done.
        before: the VM before the patch.
        patched: the VM right after the script ended, before rules were sent again.
        after: the VM after the rules were sent again; the same object as ``patched`` when none were.
        answer: the KVM agent's answer, None when no patch was run through it.
        signature: the bundle's.
        recorded: the signature that the management server now believes, None when no server took part.
        old: what the bundle that was installed before put into the VM.
        new: what this bundle puts into it.
        live_paths: paths that a patch leaves alone, relative, a trailing slash names a folder.
        control_address: the only address that sshd may listen on.
        ssh_port: port of sshd.
        console: what the serial console printed since ``before``.
        budgets: results of the probes.
        agent: the VM agent's connection to the server, None for a VM without one.
        trouble: patterns of console and journal lines that this scenario causes on purpose, in whatever case.
        graceful: words of services that may be reloaded instead of restarted.
        absent: words of services that cannot run in this VM whatever is done to it, such as an agent without its jars.
        recovery: digest of the unit that the script of the bundle has in it, which finishes or undoes a patch at boot;
            empty for a script that has none.
        policy: how the script of the bundle renews services; empty for a script of which that is not known.
        all_flows_known: whether every connection through the VM is one of the scenario's, which ends none meanwhile.
        earlier: the patch before this one in the same scenario, None for its first.
        tidy: whether the script could take the archives out of the landing folder; False where it could not even write.
    """

    vm_type: str
    expected: Expectation
    before: Observation
    patched: Observation
    after: Observation
    signature: str
    answer: PatchAnswer | None = None
    recorded: str | None = None
    old: ShippedFiles = field(default_factory=dict)
    new: ShippedFiles = field(default_factory=dict)
    live_paths: tuple[str, ...] = ()
    control_address: str = ""
    ssh_port: int = 3922
    console: str = ""
    budgets: tuple[Budget, ...] = ()
    agent: VmAgentLink | None = None
    trouble: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    graceful: frozenset[str] = field(default_factory=_graceful)
    absent: frozenset[str] = frozenset()
    recovery: str = ""
    policy: str = ""
    all_flows_known: bool = True
    earlier: Case | None = None
    tidy: bool = True

    @property
    def stalled_ms(self) -> float:
        """For how long the host itself stood still at most while somebody asked; 0 where nobody did."""
        return max((row.longest_gap_ms - row.sure_ms for row in self.budgets), default=0.0)

    def moments(self) -> list[tuple[str, Observation]]:
        """Return the observations after the patch, each with when it was made."""
        found = [("right after the patch", self.patched)]
        if self.after is not self.patched:
            found.append(("after the rules were sent again", self.after))
        return found

    def may_stay(self, service: str) -> bool:
        """Return whether the script may leave a service on its old process: it reads nothing that differs."""
        facts = catalogue.load()
        paths = {
            path for path in self.old.keys() | self.new.keys() if self.old.get(path) != self.new.get(path)
        }
        changed = {path.lstrip("/") for path in paths if not self.is_live(path)}
        return self.policy == "changed" and not reads_any(facts.service_rows, service, changed)

    def is_on_purpose(self, line: str) -> bool:
        """Return whether the scenario causes such a line of console or journal itself, or a service that is absent."""
        # What cannot start is tried again and again, and systemd says so each time.
        patterns = (*self.trouble, *(rf"\b{re.escape(word)}\.service\b" for word in self.absent))
        return any(re.search(pattern, line, re.IGNORECASE) for pattern in patterns)

    def is_live(self, path: str) -> bool:
        """Return whether an absolute path is live configuration."""
        relative = path.lstrip("/")
        return any(
            relative == live or (live.endswith("/") and relative.startswith(live)) for live in self.live_paths
        )
