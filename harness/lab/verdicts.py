"""Verdicts beyond patched or kept: refused with a reason, interrupted and yet whole, found by the judge on purpose."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from bundle.errors import CheckFailed, InfrastructureError
from harness import checks
from harness.checks import Case, Expectation, Outcome
from harness.checks.services import renewed
from harness.guest.connection import GuestStopped
from harness.guest.protocols import Guest
from harness.kvmagent import patch
from harness.kvmagent.patch import BundleFiles, PatchAnswer
from harness.lab.boots import AFTER_A_BOOT, COMES_UP, lasting
from harness.lab.expected_lines import of_broken_off_start
from harness.lab.lab import Lab
from harness.lab.logs import last_words
from harness.observe import observation
from harness.observe.observation import Observation
from harness.vm.restart import RebootFailed
from harness.vm.system import SystemVm

# The check that a VM can still be asked after a patch.
ANSWERS = "observed.answers"


class Verdicts(ABC):
    """The part of a trial that judges what a patch does that is not left alone."""

    lab: Lab
    vm: SystemVm
    scenario: str
    failures: list[str]
    cases: list[Case]
    brief: bool
    patches: int
    _last: tuple[Case, int] | None

    @abstractmethod
    def watch(
        self, files: BundleFiles, act: Callable[[], PatchAnswer | None], *, expected: Expectation = "patched",
        trouble: tuple[str, ...] = (),
    ) -> Case:  # fmt: skip
        """Do what ``act`` does to the VM, and judge it as a patch."""

    @abstractmethod
    def observed(self) -> tuple[Observation, int]:
        """Return what the VM looks like now, and how much its console had printed before."""

    @abstractmethod
    def printed(self) -> int:
        """Return how much the console has printed so far."""

    @abstractmethod
    def case_of(
        self, files: BundleFiles, expected: Expectation,
        seen: tuple[Observation, Observation, Observation], printed: int, **more: Any,
    ) -> Case:  # fmt: skip
        """Return the case of a bundle, from what was seen before, after the patch and after the rules."""

    @abstractmethod
    def require(self, name: str, problem: str) -> None:
        """Record a check of the scenario's own; ``problem`` is empty when it holds."""

    @abstractmethod
    def note(self, outcomes: Sequence[Outcome]) -> None:
        """Record outcomes of checks."""

    def interrupted(
        self,
        files: BundleFiles,
        act: Callable[[], object],
        *,
        booted: bool = False,
        trouble: tuple[str, ...] = (),
        only: tuple[str, ...] | None = None,
    ) -> Case:
        """Do something that interrupts a patch, and require that the VM is then wholly old or wholly new.

        Which of both is for the VM to say: by its signature. After a boot, nobody has sent it its rules.

        Args:
            files: the bundle that the patch was about.
            act: patches the VM and breaks in; it returns when the VM can be asked again.
            booted: the VM has booted since: what a boot makes anew is not compared.
            trouble: patterns of console and journal lines that this causes on purpose.
            only: the checks to make, by name or subject; all, or after a boot those that can be compared across one.

        Raises:
            CheckFailed: the VM does not come through the boot that ``act`` asks of it, which is a check that failed.
        """
        before, printed = self.observed()
        with self.lab.narrator.step("patch, interrupted", self.vm.topology.vm_name):
            self._act(act)
        if booted:
            self.require(COMES_UP, "")
        self.patches += 1
        with self.lab.narrator.step("observe afterwards", self.vm.topology.vm_name):
            after = self.look_again(None if booted else before)
        if booted:
            before, after = lasting(before), lasting(after)
        new = after.scripts.signature == files.signature
        case = self.case_of(
            files, "patched" if new else "kept", (before, after, after), printed,
            trouble=(*trouble, *of_broken_off_start(before.services.enabled or ())), log=last_words(self.vm.guest),
        )  # fmt: skip
        self.cases.append(case)
        self._last = None if booted else (case, self.printed())
        self.note(checks.judge(case, AFTER_A_BOOT if booted and only is None else only))
        self.lab.events.emit("settled", scenario=self.scenario, side="new" if new else "old")
        if not (new or booted or self.failures):
            self.lab.between[self.vm] = case, self.printed()
        return case

    def look_again(self, before: Observation | None) -> Observation:
        """Return what the VM looks like after a patch: one that cannot be asked any more has failed.

        Args:
            before: what was seen of it before, where that can be compared.

        Raises:
            CheckFailed: it does not answer, or its programs do not.
            InfrastructureError: because its host does not do its part.
        """
        try:
            return observation.observe(self.vm.guest, before)
        except GuestStopped:
            raise
        except InfrastructureError as error:
            self.require(ANSWERS, f"the VM cannot be observed any more since the patch: {error}")
            raise CheckFailed("the VM cannot be observed any more since the patch") from error

    def _act(self, act: Callable[[], object]) -> None:
        try:
            act()
        except RebootFailed as error:
            # What a patch leaves on the disk has to boot: this is no failure of the host.
            self.require(COMES_UP, str(error))
            raise CheckFailed("the VM does not boot after the patch was interrupted") from error

    def refused(
        self, files: BundleFiles, reason: str, around: AbstractContextManager[object] | None = None,
        guest: Guest | None = None, trouble: tuple[str, ...] = (),
    ) -> PatchAnswer:  # fmt: skip
        """Require that a patch is refused with a reason, and that the VM is as before.

        Args:
            files: the bundle.
            reason: pattern that the agent's answer must hold, in whatever case.
            around: a fault that lasts while the patch is tried.
            guest: reaches the VM in another way than its connection does.
            trouble: patterns of console and journal lines that the fault causes.
        """
        answer = PatchAnswer(False, "the patch was not run")

        def act() -> PatchAnswer:
            nonlocal answer
            with around or nullcontext():
                answer = patch.patch(guest or self.vm.guest, files, dialect=self.lab.wish.subject.dialect)
            return answer

        brief, self.brief = self.brief, True
        try:
            self.watch(files, act, expected="kept", trouble=trouble)
        finally:
            self.brief = brief
        self.require("refused", "the patch claims success" if answer.success else "")
        self.require("refused.by-script", "" if answer.ran else f"it was not run: {answer.details}")
        restarted = [
            f"{word} was {change} by a patch that was refused"
            for word, _service, change in renewed(self.cases[-1])
            if change in {"restarted", "stopped"}
        ]
        self.require("refused.nobody-restarted", "; ".join(restarted))
        told = re.search(reason, answer.details, re.IGNORECASE) is not None
        self.require("refused.reason", "" if told else f"no {reason!r} in: {answer.details!r}")
        if self.failures:
            self.lab.between.pop(self.vm, None)
        return answer

    def require_found(self, name: str, words: str = "") -> None:
        """Require that a check of the latest case did not hold, and take it for what the scenario is about.

        Args:
            name: of the check.
            words: pattern that what it says must hold, in whatever case.
        """
        said = [line for line in self.failures if line.startswith(f"{name}:")]
        found = [line for line in said if re.search(words, line, re.IGNORECASE)]
        self.failures = [line for line in self.failures if line not in found]
        missed = f"{name} saw nothing of it{': ' if said else ''}{' '.join(said)}"
        self.require(f"found.{name}", "" if found else missed)
