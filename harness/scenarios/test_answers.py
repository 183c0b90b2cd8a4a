"""The VM's answers, and everybody's belief afterwards: noise, signatures, failures, lost answers."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from bundle import catalogue
from bundle.errors import CheckFailed, UsageError
from harness.host import wait
from harness.kvmagent import patch
from harness.lab.faults import Fault
from harness.management import Target, status_of
from harness.scenario import (
    Expectation,
    Lab,
    ManagementServer,
    PatchAnswer,
    SshCommandResult,
    SshGuest,
    Trial,
)

_MADE = "/run/noise-was-made"
# Programs that talk where they should not: systemctl when it acts, the others always, on standard error.
_NOISY = f"""
for name in systemctl tar unzip sync; do
    real=$(command -v "$name") || continue
    {{
        echo '#!/bin/sh'
        echo 'case "$1" in is-*|show|cat|list-*) ;; *)'
        echo 'echo x >>{_MADE}; echo "WARNING: '"$name"' is noisy: version:0" >&2 ;;'
        echo 'esac'
        echo 'case "$1" in restart|reload|daemon-reload) echo "note: $* is done" ;; esac'
        echo "exec $real "'"$@"'
    }} >"/usr/local/sbin/$name"
    chmod 0755 "/usr/local/sbin/$name"
done
"""


@pytest.mark.scenario("S10-noise-contained")
def test_noise_does_not_reach_the_answer(lab: Lab, live_patch: Trial) -> None:
    """Programs that write to both streams: the answer is still one line, for the strict reader and for upstream's."""
    guest = live_patch.vm.guest
    guest.run(_NOISY)
    try:
        answer = live_patch.patch(lab.new_bundle)
    finally:
        guest.run(
            "rm -f /usr/local/sbin/systemctl /usr/local/sbin/tar /usr/local/sbin/unzip /usr/local/sbin/sync"
        )
    made = guest.run(f"cat {_MADE} 2>/dev/null", check=False).stdout
    live_patch.require("noise.made", "" if made else "none of the noisy programs was called")
    read = patch.read_upstream(answer.output)
    signature = live_patch.files(lab.new_bundle).signature
    live_patch.require("answer.upstream", "" if read == signature else f"a 4.22 agent would read {read!r}")


@pytest.mark.scenario("S13-md5-to-sha512")
def test_a_signature_of_another_kind_is_patched_once(lab: Lab, live_patch: Trial) -> None:
    """A VM with an MD5 signature and a bundle with SHA-512: seen as different, patched once, then left alone."""
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
    answer = _call(live_patch, server, expected="kept", trouble=(service,), fault=lab.fault)
    live_patch.require("call.failed", "the call claims success" if answer.success else "")
    live_patch.require(
        "call.reason", "" if service in answer.details else f"no {service} in: {answer.details}"
    )
    healthy = replace(server, bundle=live_patch.files(lab.new_bundle))
    _require_due(live_patch, healthy, "after-failure", due=True)
    answer = _call(live_patch, healthy, trouble=(service,))
    live_patch.require("call.succeeds", "" if answer.success else answer.details)
    _require_due(live_patch, healthy, "after-success", due=False)


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


class _Deaf:
    """A guest whose answer to the patch script never arrives: the connection is cut once the new state is committed."""

    def __init__(self, guest: SshGuest, other: SshGuest, signature: str) -> None:
        self._guest, self._other, self._signature = guest, other, signature
        self.name = guest.name

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        self._guest.put(data, path, mode)

    def run(
        self, command: str, *, deadline: float = 60.0, stdin: bytes = b"", check: bool = True
    ) -> SshCommandResult:
        if not command.endswith("/patch-sysvms.sh"):
            return self._guest.run(command, deadline=deadline, stdin=stdin, check=check)
        cutter = threading.Thread(target=self._cut, name="cut the connection")
        cutter.start()
        try:
            return self._guest.run(command, deadline=deadline, check=check)
        finally:
            cutter.join()

    def _cut(self) -> None:
        look = f"until grep -q {self._signature} /var/cache/cloud/cloud-scripts-signature; do sleep 0.5; done"
        self._other.run(look, deadline=300)
        self._guest.close()


@pytest.mark.scenario("S30-answer-lost")
def test_a_lost_answer_undoes_nothing(lab: Lab, live_patch: Trial) -> None:
    """The connection is cut right after the commit: nothing is rolled back, and the next question is answered truly."""
    guest, files = live_patch.vm.guest, live_patch.files(lab.new_bundle)
    other = SshGuest(f"{guest.name}-watcher", "127.0.0.1", guest.port, guest.key)
    lost = PatchAnswer(True, "the patch was not run")

    def act() -> None:
        nonlocal lost
        lost = patch.patch(_Deaf(guest, other, files.signature), files)
        # The brackets keep this command from finding itself.
        idle = "! pgrep -f '[/]var/cache/cloud/patch-sysvms.sh' >/dev/null"
        wait.until(lambda: other.run(idle, check=False).status == 0, "the end of the patch script", 120)

    try:
        live_patch.watch(files, act)
    finally:
        other.close()
    live_patch.require("answer.lost", "the answer arrived" if lost.success else "")
    again = live_patch.patch(lab.new_bundle, expected="kept")
    live_patch.require("patch.no-op", "it ran a second time" if again.ran else "")


@pytest.mark.scenario("S34-incomplete-bundle-refused")
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
    live_patch.watch(replace(whole, signature=before), act, expected="kept")


def _refusal(call: Callable[[], object], word: str) -> str:
    """Return what is wrong with how a call refuses, or nothing."""
    try:
        call()
    except UsageError as error:
        return "" if word in error.diagnostics() else f"{word} is not named: {error.diagnostics()}"
    return "it was not refused"
