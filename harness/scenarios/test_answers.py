"""The VM's answers, and everybody's belief afterwards: noise, signatures, failures, lost answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from bundle import catalogue
from bundle.errors import CheckFailed, UsageError
from harness.host import wait
from harness.kvmagent import patch
from harness.lab import bundles
from harness.lab.expected_lines import of_failing_service
from harness.lab.faults import BeginFault, Fault, programs
from harness.management import Target, gate, status_of
from harness.observe import identity
from harness.scenario import Expectation, Lab, ManagementServer, PatchAnswer, Trial
from harness.site.authority import Authority

# What talks where it should not, and in which calls. Who asks a program something reads its standard output: so that
# is only spoilt where something is done.
_NOISY = (
    ("systemctl", "talks", "@(restart|reload|daemon-reload)*"),
    ("tar", "mutters", "*"),
    ("unzip", "mutters", "*"),
    ("sync", "mutters", "*"),
)


@pytest.mark.scenario("S10-noise-contained")
def test_noise_does_not_reach_the_answer(lab: Lab, live_patch: Trial, fault: BeginFault) -> None:
    """Programs that write to both streams: the answer is still one line, for the strict reader and for upstream's."""
    live_patch.brief = True
    files = live_patch.files(lab.new_bundle)
    answer, made = PatchAnswer(False, "the patch was not run"), 0

    def act() -> PatchAnswer:
        nonlocal answer, made
        with ExitStack() as stack:
            for name, deed, words in _NOISY:
                stack.enter_context(fault("program.broken", names=[name], deed=deed, words=words))
            answer = patch.patch(live_patch.vm.guest, files)
            made = sum(programs.calls(live_patch.vm, name) for name, _, _ in _NOISY)
        return answer

    live_patch.watch(files, act)
    live_patch.require("noise.made", "" if made else "none of the noisy programs was called")
    read = patch.read_upstream(answer.output)
    live_patch.require(
        "answer.upstream", "" if read == files.signature else f"a 4.22 agent would read {read!r}"
    )


@pytest.mark.scenario("S13-md5-to-sha512")
def test_a_signature_of_another_kind_is_patched_once(lab: Lab, live_patch: Trial) -> None:
    """A VM with an MD5 signature and a bundle with SHA-512: seen as different, patched once, then left alone."""
    live_patch.brief = True
    if lab.old.signature == lab.new.signature:
        pytest.skip(f"{lab.old.name} has {lab.new.signature} signatures already")
    guest, files = live_patch.vm.guest, live_patch.files(lab.new_bundle)
    before = patch.ask_versions(guest).scripts
    live_patch.require("signature.before", "" if len(before) == 32 else f"no MD5: {before!r}")
    (row,) = status_of([Target("vm", guest)], files)
    live_patch.require("status.before", "" if row.installed == before != row.available else f"says {row}")
    answer = live_patch.patch(lab.new_bundle)
    live_patch.require("patch.ran", "" if answer.ran else f"it did not run: {answer.details}")
    after = patch.ask_versions(guest).scripts
    live_patch.require("signature.after", "" if after == files.signature else f"not the bundle's: {after!r}")
    (row,) = status_of([Target("vm", guest)], files)
    live_patch.require("status.after", f"says {row}" if row.live_patch_available else "")
    again = live_patch.patch(lab.new_bundle, expected="kept")
    live_patch.require("patch.no-op", "it ran a second time" if again.ran else "")


@pytest.mark.scenario("S14-failure-fails-the-call")
def test_a_failed_patch_fails_the_call_of_the_server(lab: Lab, live_patch: Trial) -> None:
    """The VM reports failure: the call fails, what was due stays due, and a healthy bundle clears it."""
    try:
        service = lab.broken_service()
    except UsageError as error:
        pytest.skip(str(error))
    server = live_patch.server(lab.broken_bundle())
    answer = _call(live_patch, server, expected="kept", trouble=of_failing_service(service), fault=lab.fault)
    live_patch.require("call.failed", "the call claims success" if answer.success else "")
    live_patch.require(
        "call.reason", "" if service in answer.details else f"no {service} in: {answer.details}"
    )
    healthy = replace(server, bundle=live_patch.files(lab.new_bundle))
    _require_due(live_patch, healthy, "after-failure", due=True)
    answer = _call(live_patch, healthy, trouble=of_failing_service(service))
    live_patch.require("call.succeeds", "" if answer.success else answer.details)
    _require_due(live_patch, healthy, "after-success", due=False)


@pytest.mark.scenario("S11-version-gate-accepts")
def test_the_version_gate_accepts_a_patched_vm(lab: Lab, live_patch: Trial) -> None:
    """The server asks for a newer template: a VM is refused before its patch, and accepted for its scripts after it."""
    server = replace(live_patch.server(lab.new_bundle), minimum_template="9.9.0")
    asked = partial(patch.ask_versions, live_patch.vm.guest)
    before = gate.refusal(asked(), server.bundle.signature, server.minimum_template)
    live_patch.require("gate.before", "" if before else "the gate lets an old VM pass")
    answer = _call(live_patch, server)
    live_patch.require("call.succeeds", "" if answer.success else answer.details)
    live_patch.require("gate.after", gate.refusal(asked(), server.bundle.signature, server.minimum_template))


@pytest.mark.scenario("S12-built-twice-is-the-same")
def test_a_bundle_that_is_built_again_is_no_other_one(lab: Lab, live_patch: Trial, tmp_path: Path) -> None:
    """The bundle is built once more, as on another machine: the same bytes, so a patched VM is left alone."""
    if lab.wish.subject.bundle is not None:
        pytest.skip("the bundle was named: there is no source to build it from")
    live_patch.brief = True
    again = bundles.built_elsewhere(lab.wish.subject, lab.new.name, tmp_path / "again")
    names = [path.name for path in lab.new_bundle.iterdir()]
    differ = [name for name in names if (again / name).read_bytes() != (lab.new_bundle / name).read_bytes()]
    live_patch.require("build.same", f"these differ: {', '.join(sorted(differ))}" if differ else "")
    live_patch.patch(lab.new_bundle)
    answer = live_patch.patch(again, expected="kept")
    live_patch.require("patch.no-op", "it ran a second time" if answer.ran else "")


@pytest.mark.scenario(
    "S09-identity-kept",
    types=catalogue.load().types_that(have="agent"),
    why="only VMs with an agent have keys and properties of one",
)
def test_keys_and_properties_of_the_agent_survive(lab: Lab, live_patch: Trial) -> None:
    """Key store, trust store and properties are there before the patch and the same after it; the agent connects."""
    guest = live_patch.vm.guest
    if guest.run(f"test -e {identity.TRUSTSTORE}", check=False).status != 0:
        # Not every agent ships one; it is there once an authority was added, as for certificates of an operator's own.
        guest.run(f"mkdir -p {identity.TRUSTSTORE.rpartition('/')[0]}")
        guest.put(Authority().trust_store(identity.TRUSTSTORE_PASSWORD), identity.TRUSTSTORE)
    live_patch.patch(lab.new_bundle)
    seen = live_patch.cases[-1].before.identity
    missing = [name for name in ("keystore", "truststore", "properties") if not getattr(seen, name)]
    live_patch.require("identity.there", f"the VM had no {', '.join(missing)}" if missing else "")


def _require_due(trial: Trial, server: ManagementServer, when: str, *, due: bool) -> None:
    """Require that everybody who asks is told that a patch is due, or that none is."""
    (row,) = status_of([Target("vm", trial.vm.guest)], server.bundle)
    differs = row.installed != row.available
    trial.require(f"status.{when}", "" if row.installed and differs == due else f"it says {row}")
    believed = server.inventory.vm("vm").scripts_version
    current = believed == server.bundle.signature
    trial.require(f"belief.{when}", f"the server believes in {believed!r}" if current == due else "")
    if _has_agent(trial):
        trial.skip(f"restart.{when}", f"no network waits for the restart of a {trial.vm.topology.vm_type}")
        return
    required = server.inventory.network("net").restart_required
    words = "is still set" if required else "was cleared"
    trial.require(f"restart.{when}", "" if required == due else f"'restart required' {words}")


def _has_agent(trial: Trial) -> bool:
    return "agent" in catalogue.vm_type(trial.vm.topology.vm_type).has


def _call(
    trial: Trial,
    server: ManagementServer,
    expected: Expectation = "patched",
    trouble: tuple[str, ...] = (),
    fault: Fault | None = None,
) -> PatchAnswer:
    """Patch by the server's own call, and judge the VM."""
    answer = PatchAnswer(False, "the call was not made")

    def act() -> PatchAnswer:
        nonlocal answer
        try:
            if _has_agent(trial):
                server.patch_system_vm("vm")
            else:
                server.restart_network("net", live_patch=True)
            known = server.inventory.vm("vm").scripts_version
            answer = PatchAnswer(True, "the call succeeded", scripts_version=known, patched=True, ran=True)
        except CheckFailed as error:
            believed = patch.ask_versions(trial.vm.guest).scripts
            answer = PatchAnswer(False, error.diagnostics(), scripts_version=believed, ran=True)
        return answer

    rules: Literal["send", "sent"] = "send" if _has_agent(trial) else "sent"
    trial.watch(server.bundle, act, expected=expected, trouble=trouble, rules=rules, fault=fault)
    return answer


@pytest.mark.scenario("S30-answer-lost")
def test_a_lost_answer_undoes_nothing(lab: Lab, live_patch: Trial, fault: BeginFault) -> None:
    """The connection is cut when the answer comes: nothing is rolled back, and the next question is answered truly."""
    vm, files = live_patch.vm, live_patch.files(lab.new_bundle)
    lost = PatchAnswer(True, "the patch was not run")

    def act() -> None:
        nonlocal lost
        with fault("ssh.cut") as guest:
            lost = patch.patch(guest, files)
        # The brackets keep this command from finding itself.
        idle = "! pgrep -f '[/]var/cache/cloud/patch-sysvms.sh' >/dev/null"
        wait.until(lambda: vm.guest.run(idle, check=False).status == 0, "the end of the patch script", 120)

    live_patch.watch(files, act)
    live_patch.require("answer.lost", "the answer arrived" if lost.success else "")
    again = live_patch.patch(lab.new_bundle, expected="kept")
    live_patch.require("patch.no-op", "it ran a second time" if again.ran else "")


@pytest.mark.scenario("S34-incomplete-host-refused", untouched=True)
def test_an_incomplete_bundle_is_refused_before_the_vm_is_touched(
    lab: Lab, live_patch: Trial, tmp_path: Path
) -> None:
    """A bundle without one of its files, and hosts with another one than the server: refused, and the file is named."""
    whole = live_patch.files(lab.new_bundle)

    def act() -> None:
        for name in patch.FILES:
            folder = tmp_path / name
            shutil.copytree(lab.new_bundle, folder)
            (folder / name).unlink()
            live_patch.require(f"refused.without-{name}", _refusal(partial(live_patch.files, folder), name))
        server = replace(live_patch.server(lab.new_bundle), hosts=patch.load_bundle(lab.old_bundle))
        vm = server.inventory.vm("vm")
        live_patch.require("refused.older-host", _refusal(partial(server.patch, vm), str(lab.old_bundle)))

    before = patch.ask_versions(live_patch.vm.guest).scripts
    live_patch.probing = False
    live_patch.watch(replace(whole, signature=before), act, expected="kept", rules="leave")


def _refusal(call: Callable[[], object], word: str) -> str:
    """Return what is wrong with how a call refuses, or nothing."""
    try:
        call()
    except UsageError as error:
        return "" if word in error.diagnostics() else f"{word} is not named: {error.diagnostics()}"
    return "it was not refused"
