"""One live patch of one system VM, observed from before to after, and judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bundle import catalogue
from harness import checks, network
from harness.checks import Case, Expectation, Outcome, shipped
from harness.checks.services import renewed
from harness.kvmagent import patch
from harness.kvmagent.patch import BundleFiles, Dialect, PatchAnswer
from harness.lab import between, standstill
from harness.lab.aftermath import run as aftermath
from harness.lab.aftermath.reboot import GATES, reboot
from harness.lab.budgets import (
    AGENT_BUDGETS_MS,
    AGENT_FLOORS_MS,
    AGENT_PROBE,
    BUDGETS_MS,
    CONSOLE_PORT,
    CONSOLE_RATE,
    CONSOLE_TIMEOUT,
    FIRST_ANSWERS,
    FLOORS_MS,
    PACES,
    ROLLBACK_BUDGETS_MS,
    RULES_FLOORS_MS,
    budget,
    stretched,
)  # fmt: skip
from harness.lab.faults import Fault
from harness.lab.lab import Lab
from harness.lab.logs import last_words
from harness.lab.management_network import site_of
from harness.lab.verdicts import Verdicts
from harness.management import Inventory, ManagementServer, NetworkRow, Vm
from harness.observe import console_log, observation
from harness.observe.observation import Observation
from harness.record.events import Event, Json
from harness.site import vnc
from harness.site.site import PINGS
from harness.site.vm_agent_link import VmAgentLink
from harness.traffic import ConsoleProbe, Probe, Traffic, plan, proofs
from harness.traffic.measurement import Budget
from harness.vm.system import SystemVm


@dataclass
class _VmAgentLinkHolder:
    """The holder of the VM agent's connection state, empty until that is known."""

    state: VmAgentLink | None = None


@dataclass(frozen=True)
class _Seen:
    """Where a server tells what it does: the VM is looked at when it has been patched, before any rule is sent."""

    trial: Trial

    def emit(self, kind: str, **fields: Json) -> Event:
        """Record an event of the server."""
        event = self.trial.lab.events.emit(kind, **fields)
        if kind == "patch":
            self.trial.look_between()
        return event


@dataclass
class Trial(Verdicts):
    """A trial of a system VM: patches it, and records what it finds; a scenario may patch several times.

    Attributes:
        scenario: id under which events are recorded.
        failures: checks that did not hold, for people; a scenario with any of them fails at its end.
        by_host: those of them by which nobody can be judged, because the host itself made them.
        cases: what was seen of each patch, for checks of the scenario's own.
        probing: whether probes run beside a patch; without them it is faster, and nothing is said of users.
        brief: neither probes run nor are rules sent again and proved: for scenarios that are about something else.
        tidy: the script can take what was uploaded away, as it must when it fails; not where it cannot even write.
        sending: makes what goes on while rules are sent again after a patch.
        proof_deadline: seconds within which a request through a rule must be answered.
        look: what is done at the failure of a patch, which stands still meanwhile; None lets it roll back at once.
    """

    lab: Lab
    vm: SystemVm
    scenario: str
    failures: list[str] = field(default_factory=list)
    by_host: set[str] = field(default_factory=set)
    cases: list[Case] = field(default_factory=list)
    probing: bool = True
    brief: bool = False
    tidy: bool = True
    sending: Callable[[], AbstractContextManager[object]] = nullcontext
    proof_deadline: float = proofs.DEADLINE
    look: standstill.LookInside | None = None
    patches: int = field(default=0, init=False)
    _started: Observation | None = field(default=None, init=False)
    _when_patched: Observation | None = field(default=None, init=False)
    _last: tuple[Case, int] | None = field(default=None, init=False)
    _patched_to: str | None = field(default=None, init=False)

    @property
    def occasion(self) -> str:
        """After which patch checks are made now, such as ``second patch``; empty before the first one."""
        if not self.patches:
            return ""
        known = ("first", "second", "third")
        return f"{known[self.patches - 1] if self.patches <= len(known) else f'{self.patches}th'} patch"

    def patch(
        self,
        bundle: Path,
        *,
        expected: Expectation = "patched",
        forced: bool = False,
        trouble: tuple[str, ...] = (),
        fault: Fault | None = None,
    ) -> PatchAnswer:
        """Patch as the KVM agent does, send the rules again when it succeeded, and make every check.

        Args:
            bundle: folder of the bundle.
            expected: whether the VM must be new or as before afterwards.
            forced: patch although the signature is the bundle's already.
            trouble: patterns of console and journal lines that this patch causes on purpose.
            fault: what is wrong with the bundle; a service that it stops may be down until it is rolled back.
        """
        files = self.files(bundle)
        answer = PatchAnswer(False, "the patch was not run")

        def act() -> PatchAnswer:
            nonlocal answer
            answer = patch.patch(self.vm.guest, files, forced=forced, dialect=self._dialect)
            return answer

        self.watch(files, act, expected=expected, trouble=trouble, fault=fault)
        return answer

    def files(self, bundle: Path) -> BundleFiles:
        """Return the files of a bundle with the signature that the new release gives them."""
        return patch.load_bundle(bundle, self.lab.new.signature)

    def server(self, bundle: Path) -> ManagementServer:
        """Return a management server with a bundle that knows this VM as ``vm``, the router of network ``net``."""
        topology = self.vm.topology
        inventory = Inventory()
        inventory.add(
            Vm("vm", topology.vm_name, topology.vm_type, self.vm.guest, networks=("net",)),
            NetworkRow("net", declared=self.lab.network),
        )
        return ManagementServer(
            inventory,
            self.files(bundle),
            release=self.lab.new.name,
            events=_Seen(self),
            dialect=self._dialect,
        )

    @property
    def _dialect(self) -> Dialect:
        """How the script's answer is read."""
        return self.lab.wish.subject.dialect

    def watch(
        self,
        files: BundleFiles,
        act: Callable[[], PatchAnswer | None],
        *,
        expected: Expectation = "patched",
        trouble: tuple[str, ...] = (),
        rules: Literal["send", "sent", "leave"] = "send",
        fault: Fault | None = None,
    ) -> Case:
        """Do what ``act`` does to the VM with probes running, and judge it as a patch.

        Args:
            files: the bundle that it is about.
            act: patches the VM, by whatever way, and returns the KVM agent's answer; None when nobody got one.
            expected: whether the VM must be new or as before afterwards.
            trouble: patterns of console and journal lines that it causes on purpose.
            rules: whether they are to be sent again afterwards and proved, or ``act`` sends them itself and they are
                only proved, or nobody is to care.
            fault: as in ``patch``.
        """
        step = self.lab.narrator.step
        rules = "leave" if self.brief else rules
        (before, printed), well_before = self.observed(), len(self.failures)
        self._started = before if rules == "sent" else None
        with step("live patch", self.vm.topology.vm_name), self._watched() as (traffic, link):
            limits = self._limits(traffic.calm(), fault.service if fault is not None and fault.stops else "")
            answer, limits, stretch = self._on_this_host(act, limits)
        self.patches += 1
        with step("observe after the patch", self.vm.topology.vm_name):
            after = self.look_again(before)
        # A server that sends rules itself does so within the act: it was looked at before it did.
        patched, self._when_patched, self._started = self._when_patched or after, None, None
        told, well = self._result(answer, files, expected)
        budgets = traffic.budgets(limits, stretch)
        if well and rules == "send" and self.lab.network is not None:
            budgets += self._send_watched()
            after = self.look_again(before)
        case = self.case_of(
            files, expected, (before, patched, after), printed,
            answer=answer, recorded=told, budgets=budgets, agent=link.state, trouble=trouble,
            log=last_words(self.vm.guest) if answer is not None and answer.ran else (),
        )  # fmt: skip
        with self.lab.events.about(occasion=self.occasion):
            traffic.record(self.lab.events, self.scenario, limits)
        self._record(case, answer, rules_sent=well and rules != "leave")
        if rules != "leave":
            self.prove_rules()
        self._hand_on(case, well=len(self.failures) == well_before)
        return case

    def _hand_on(self, case: Case, *, well: bool) -> None:
        """Let whoever uses a VM next that was proven to be as before have what was seen of it."""
        if well and case.expected == "kept":
            self.lab.between[self.vm] = case, self.printed()

    def case_of(
        self, files: BundleFiles, expected: Expectation,
        seen: tuple[Observation, Observation, Observation], printed: int, **more: Any,
    ) -> Case:  # fmt: skip
        """Return the case of a bundle, from what was seen before, after the patch and after the rules."""
        vm_type = self.lab.wish.vm_type
        before, patched, after = seen
        return Case(
            vm_type=vm_type, expected=expected, before=before, patched=patched, after=after, signature=files.signature,
            old=shipped.read(patch.load_bundle(self.lab.old_bundle), vm_type),
            # One that has to be refused may be one that cannot be read.
            new=shipped.read(files, vm_type) if expected == "patched" else {},
            live_paths=catalogue.load().live_paths, control_address=self.vm.topology.control.address,
            console=self._printed_since(printed), absent=self._absent(),
            policy=shipped.policy(files), recovery=shipped.recovery(files),
            earlier=self.cases[-1] if self.cases else None, tidy=self.tidy, **more,
        )  # fmt: skip

    def observed(self) -> tuple[Observation, int]:
        """Return what the VM looks like now, and how much its console had printed before.

        One that is proven to be as it was is not looked at once more. What changed since the patch before is noted,
        as long as nobody has :meth:`disturbed` the VM.
        """
        known = self.lab.between.pop(self.vm, None)
        if known is not None:
            case, printed = known
            return case.after, printed
        (last, printed), said = self._last or (None, 0), self.printed()
        with self.lab.narrator.step("observe before", self.vm.topology.vm_name):
            now = observation.observe(self.vm.guest, last.after if last else None)
        if last is not None:
            self.note(between.outcomes(last, now, self._printed_since(printed)))
        return now, said

    def look_between(self) -> None:
        """Look at the VM after its patch and before its rules, when it is a server of the act that sends them."""
        if self._started is not None:
            self._when_patched = observation.observe(self.vm.guest, self._started)

    def printed(self) -> int:
        """Return how much the console has printed so far."""
        return self.vm.console_log.stat().st_size

    def _absent(self) -> frozenset[str]:
        """Return the services that cannot run: the agent, where its jars are missing."""
        wants_one = "agent" in catalogue.vm_type(self.lab.wish.vm_type).has
        return frozenset({"cloud"}) if wants_one and not self.lab.has_agent else frozenset()

    def _send_watched(self) -> tuple[Budget, ...]:
        """Send the rules again with probes running; returns what they saw. Nothing else loads the VM meanwhile."""
        with Traffic(self.probes()) as traffic:
            traffic.settle(FIRST_ANSWERS, self.vm.machine.stretch())
            limits = self._limits(traffic.calm(), floors=RULES_FLOORS_MS)
            took = self.vm.machine.stretch()
            with self.sending():
                self.send_rules()
            stretch = took()
        traffic.call(" while rules were sent")
        limits = {f"{name} while rules were sent": most for name, most in stretched(limits, stretch).items()}
        with self.lab.events.about(occasion=self.occasion):
            traffic.record(self.lab.events, self.scenario, limits)
        return traffic.budgets(limits, stretch)

    def send_rules(self) -> bool:
        """Send the rules again, as a server of the new release does after a patch; says whether there are any."""
        if self.lab.network is None:
            return False
        with self.lab.narrator.step("send the rules again", self.vm.topology.vm_name):
            orders = network.Orders(self.lab.network, self.lab.new.name, int(time.time() * 1000))
            network.deliver(self.vm.guest, orders.reapply())
        return True

    def _result(
        self, answer: PatchAnswer | None, files: BundleFiles, expected: Expectation
    ) -> tuple[str, bool]:
        """Return the signature of the scripts that the VM is believed to run, and whether the patch went well."""
        if answer is not None:
            return answer.scripts_version, answer.success
        told = patch.ask_versions(self.vm.guest).scripts
        return told, expected == "patched" and told == files.signature

    def _printed_since(self, size: int) -> str:
        """Return what the console printed since its log had so many bytes."""
        return console_log.printed_since(self.vm.console_log, size)

    def prove_rules(self) -> None:
        """Send a request through every rule of the network; a VM without one has nothing to prove."""
        if self.lab.network is None:
            return
        with self.lab.narrator.step("prove the rules", self.vm.topology.vm_name):
            answers = proofs.prove(self.vm, self.lab.network, deadline=self.proof_deadline)
        self.note(
            [Outcome(f"request.{a.name}", "failed" if a.reason else "passed", a.reason) for a in answers]
        )

    def require(self, name: str, problem: str) -> None:
        """Record a check of the scenario's own; ``problem`` is empty when it holds."""
        self.note([Outcome(name, "failed" if problem else "passed", problem)])

    def aftermath(self, *, whole: bool = False) -> None:
        """Make later uses of the VM, each a check; what fails in a copy that nobody patched is not held against it.

        Args:
            whole: those, too, that take longer than the end of a scenario should.
        """
        with self.lab.narrator.step("use it later", self.vm.topology.vm_name):
            self.note(aftermath.outcomes(self.lab, self.vm, self._patched_to, whole=whole))
        self.disturbed()

    def disturbed(self) -> None:
        """Forget what the VM looked like: it was used since, or something was done to it."""
        self._last = None
        self.lab.between.pop(self.vm, None)

    def reboot(self) -> None:
        """Let the VM reboot, and judge that it is what it was; then prove the rules of one that came back."""
        with self.lab.narrator.step("reboot", self.vm.topology.vm_name):
            before = observation.observe(self.vm.guest)
            release = self.lab.new if self._patched_to else self.lab.old
            found = reboot(self.vm, self.lab.network, release.name, before)
            self.note(found)
        self.disturbed()
        answers = all(row.verdict == "passed" for row in found if row.name in GATES)
        if answers:
            self.prove_rules()

    def skip(self, name: str, reason: str) -> None:
        """Record that a check of the scenario's own cannot be made for this VM, and why."""
        self.note([Outcome(name, "skipped", reason)])

    @contextmanager
    def _watched(self) -> Iterator[tuple[Traffic, _VmAgentLinkHolder]]:
        """Run all probes, and follow the VM agent's connection until it is there again."""
        site = site_of(self.vm)
        if site is None:
            with Traffic(self.probes()) as traffic:
                traffic.settle(FIRST_ANSWERS, self.vm.machine.stretch())
                yield traffic, _VmAgentLinkHolder()
            return
        before = site.connected()
        link = _VmAgentLinkHolder()
        reported = {AGENT_PROBE: PINGS}
        with (
            Traffic(self.probes(), reported=reported) as traffic,
            site.followed(traffic.recorder(AGENT_PROBE)),
        ):
            traffic.settle(FIRST_ANSWERS, self.vm.machine.stretch())
            yield traffic, link
            link.state = site.link_since(before)

    def probes(self) -> list[Probe]:
        """Return what keeps asking, from the public side and from the tenants, while the patch runs."""
        if self.brief or not self.probing or (self.lab.network is None and not self.lab.has_agent):
            return []
        if "console" in catalogue.vm_type(self.vm.topology.vm_type).has:
            address = next(nic.address for nic in self.vm.topology.nics if nic.role == "public")
            port = self.vm.endpoints[(address, CONSOLE_PORT)]
            return [
                ConsoleProbe(
                    f"console {address}:{CONSOLE_PORT}", "127.0.0.1", port, vnc.SCREEN,
                    rate=CONSOLE_RATE, timeout=CONSOLE_TIMEOUT,
                )
            ]  # fmt: skip
        if self.lab.network is None:
            return []
        return plan.probes(self.vm, self.lab.network, PACES[self.lab.engine.accelerator.domain_type])

    def _on_this_host(
        self, act: Callable[[], PatchAnswer | None], limits: dict[str, float]
    ) -> tuple[PatchAnswer | None, dict[str, float], float]:
        """Do what patches the VM.

        Returns:
            Its answer, the limits as this host stretched them meanwhile, and how many times longer than alone all took.
        """
        took = self.vm.machine.stretch()
        answer = standstill.at_failure(self.vm, act, self.look)
        stretch = took()
        return answer, stretched(limits, stretch), stretch

    def _limits(
        self, calm: Mapping[str, float | None], stopped: str = "", floors: Mapping[str, float] = FLOORS_MS
    ) -> dict[str, float]:
        """Return the longest gap in milliseconds that each probe may have.

        Args:
            calm: the longest gap of each before; it says how fast this host is.
            stopped: a service that a fault stops.
            floors: for a host that answers at once.
        """
        kind = self.lab.engine.accelerator.domain_type
        row = catalogue.load().service_rows.get(stopped)
        waiting = row.probes if row is not None else ()
        if site_of(self.vm) is not None:  # what an agent VM offers, it offers through that agent
            floor, most = AGENT_FLOORS_MS[kind], AGENT_BUDGETS_MS[kind]
            return {name: budget(floor, most, longest) for name, longest in calm.items()}
        return {
            name: ROLLBACK_BUDGETS_MS[kind]
            if name.startswith(waiting)
            else budget(floors[kind], BUDGETS_MS[kind], longest)
            for name, longest in calm.items()
        }

    def _record(self, case: Case, answer: PatchAnswer | None, *, rules_sent: bool) -> None:
        emit = self.lab.events.emit
        if answer is not None:
            emit(
                "patch",
                scenario=self.scenario,
                success=answer.success,
                seconds=answer.seconds,
                details=answer.details,
                occasion=self.occasion,
                log=list(case.log),
            )
        changes = {word: change for word, _service, change in renewed(case)}
        words = [word for word, change in changes.items() if change in ("restarted", "reloaded")]
        emit("services", scenario=self.scenario, restarted=words, changes=changes)
        if rules_sent and self.lab.network is not None:
            emit("rules", scenario=self.scenario, reapplied=self.lab.network.rule_count)
        self.cases.append(case)
        self._last = case, self.printed()
        self._patched_to = case.signature if case.expected == "patched" else self._patched_to
        self.note(checks.judge(case))
        for seen in (case.after, case.patched, case.before):
            if seen.state.unread:
                reason = f"the guest listed its disk, which the host could not read: {seen.state.unread}"
                # What it could read before the patch, and not after it, the patch may have made so.
                lost = case.before.state.from_host
                self.note([Outcome("files.by-host", "error" if lost else "skipped", reason)])
                break

    def note(self, outcomes: Sequence[Outcome]) -> None:
        """Record outcomes of checks, such as those of a comparison of the scenario's own.

        Raises:
            InfrastructureError: one has failed, and a machine or the network behind it has ended: that is why.
        """
        if checks.failed(outcomes):
            self.vm.require_run()
            if (site := site_of(self.vm)) is not None:
                site.require()
        for outcome in checks.record(self.lab.events, self.scenario, outcomes, self.occasion):
            lines = "".join(f"\n    {line}" for line in outcome.details[:12])
            self.failures.append(f"{outcome.name}: {outcome.reason}{lines}")
            if outcome.by_host:
                self.by_host.add(self.failures[-1])
