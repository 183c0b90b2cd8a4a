"""Refusals, before anything of the VM is touched; all of them on one VM, which is looked at after each."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundle import layout
from bundle.derive import derive
from bundle.errors import UsageError
from bundle.seal import ecdsa
from bundle.seal.manifest import Facts
from bundle.seal.signer import KeySigner
from harness.guest.transfer import CLEAR
from harness.kvmagent.patch import FILES
from harness.lab.expected_lines import FAILING_DISK
from harness.lab.faults import BeginFault
from harness.lab.faults.uploads import Landed, OverLines
from harness.scenario import BundleFiles, Lab, LineConditions, Trial

_CMDLINE = "/var/cache/cloud/cmdline"
_LIST = "/var/cache/cloud/enabled_svcs"
_TRUST = "/etc/cloudstack/livepatch-trust.pem"
# What a bundle may not bring: a file outside of what a system VM's scripts own.
_OUTSIDE = "usr/bin/sysvm-outside"


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flipped(data: bytes) -> bytes:
    place = len(data) * 2 // 3
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def _no_archive(data: bytes) -> bytes:
    return b"this is no archive\n" * (len(data) // 19)


_DAMAGES = {"half": _half, "flipped": _flipped, "no-archive": _no_archive}


@contextmanager
def _changed(trial: Trial, change: str, undo: str) -> Iterator[None]:
    """Change something of the VM while a patch is tried."""
    trial.vm.guest.run(change)
    try:
        yield
    finally:
        trial.vm.guest.run(undo)


def _with(files: BundleFiles, name: str, data: bytes) -> BundleFiles:
    """Return what is uploaded when one file is another; the signature is that of what was meant."""
    return replace(files, contents={**files.contents, name: data})


@pytest.mark.scenario("S02-damaged-scripts-refused", untouched=True)
@pytest.mark.parametrize("damage", list(_DAMAGES))
def test_damaged_scripts_are_refused(lab: Lab, live_patch: Trial, damage: str) -> None:
    """The scripts' archive is shortened, has one bit flipped, or is no archive: refused by name."""
    files = live_patch.files(lab.new_bundle)
    bad = _with(files, layout.SCRIPTS, _DAMAGES[damage](files.contents[layout.SCRIPTS]))
    live_patch.refused(bad, layout.SCRIPTS)


@pytest.mark.scenario("S03-damaged-agent-refused", untouched=True)
@pytest.mark.parametrize("damage", list(_DAMAGES))
def test_a_damaged_agent_is_refused(lab: Lab, live_patch: Trial, damage: str) -> None:
    """The agent's archive is shortened, has one bit flipped, or is no archive: refused by name."""
    files = live_patch.files(lab.new_bundle)
    bad = _with(files, layout.AGENT, _DAMAGES[damage](files.contents[layout.AGENT]))
    live_patch.refused(bad, layout.AGENT)


@pytest.mark.scenario("S02-shortened-upload-refused", untouched=True)
@pytest.mark.parametrize("name", ["cloud-scripts.tgz", "agent.zip"])
def test_an_upload_that_ended_early_is_refused(lab: Lab, live_patch: Trial, name: str) -> None:
    """Half of a file arrives and both sides believe that this was all of it: the script refuses it by name."""
    files = live_patch.files(lab.new_bundle)
    half = LineConditions(ends_after=len(files.contents[name]) // 2)
    guest = OverLines(live_patch.vm.guest, [half if file == name else CLEAR for file in FILES])
    live_patch.refused(files, name, guest=guest)


@pytest.mark.scenario("S05-full-disk-refused", untouched=True)
def test_a_full_disk_is_seen_before_anything_is_touched(
    lab: Lab, live_patch: Trial, fault: BeginFault
) -> None:
    """The disk has no room for the patch: refused with what is free, and nothing is half written."""
    files = live_patch.files(lab.new_bundle)
    size = sum(map(len, files.contents.values()))
    guest = Landed(live_patch.vm.guest, fault("disk.full", leave=size // 4))
    live_patch.refused(files, r"free|space|room", guest=guest)


@pytest.mark.scenario("S05-read-only-disk-refused", untouched=True)
def test_a_read_only_disk_is_no_success(lab: Lab, live_patch: Trial, fault: BeginFault) -> None:
    """The file systems have become read-only: the patch fails and says so."""
    guest = Landed(live_patch.vm.guest, fault("disk.read-only"))
    files = live_patch.files(lab.new_bundle)
    live_patch.tidy = False
    live_patch.refused(files, r"read-only|cannot|failed", guest=guest, trouble=FAILING_DISK)


@pytest.mark.scenario("S27-path-outside-refused", untouched=True)
def test_a_path_outside_of_the_payload_is_refused(lab: Lab, live_patch: Trial, tmp_path: Path) -> None:
    """A bundle brings a program of the system: refused by name."""

    def edit(contents: Any) -> None:
        contents[layout.SCRIPTS].write(_OUTSIDE, b"#!/bin/sh\n", 0o755)

    bundle = derive(lab.new_bundle, tmp_path / "outside", edit, digest=lab.new.signature)
    live_patch.refused(live_patch.files(bundle), r"usr/bin")


@pytest.mark.scenario("S27-unsigned-refused", untouched=True)
def test_an_unsigned_bundle_is_refused_where_signatures_are_asked_for(lab: Lab, live_patch: Trial) -> None:
    """The VM has a key that bundles must be signed with, and this one is not: refused."""
    key = f"openssl ecparam -name secp384r1 -genkey -noout 2>/dev/null | openssl ec -pubout 2>/dev/null >{_TRUST}"
    around = _changed(live_patch, f"mkdir -p /etc/cloudstack && {key}", f"rm -f {_TRUST}")
    live_patch.refused(live_patch.files(lab.new_bundle), r"sign", around)


@pytest.mark.scenario("S27-wrong-signer-refused", untouched=True)
def test_a_bundle_of_another_signer_is_refused(lab: Lab, live_patch: Trial, tmp_path: Path) -> None:
    """The VM trusts one key, and the bundle is signed well, with another one: refused."""
    trusted = ecdsa.generate(tmp_path / "trusted")
    ecdsa.generate(tmp_path / "other")
    signer = KeySigner(ecdsa.load_private(tmp_path / "other"))
    try:
        bundle = derive(lab.new_bundle, tmp_path / "bundle", lambda _: None, signer=signer)
    except UsageError as error:
        pytest.skip(str(error))
    key = shlex.quote(trusted.read_text())
    around = _changed(live_patch, f"mkdir -p /etc/cloudstack && printf %s {key} >{_TRUST}", f"rm -f {_TRUST}")
    live_patch.refused(live_patch.files(bundle), r"sign", around)


@pytest.mark.scenario("S29-service-list-missing", untouched=True)
def test_a_missing_list_of_services_is_a_failure(lab: Lab, live_patch: Trial) -> None:
    """Without the list of services nothing could be restarted: refused by name."""
    undo = f"cp -a /dev/shm/services {_LIST}; rm /dev/shm/services"
    around = _changed(live_patch, f"cp -a {_LIST} /dev/shm/services; rm {_LIST}", undo)
    live_patch.refused(live_patch.files(lab.new_bundle), "enabled_svcs", around)


@pytest.mark.scenario("S34-incomplete-bundle-refused", untouched=True)
@pytest.mark.parametrize("name", ["cloud-scripts.tgz", "agent.zip"])
def test_an_archive_that_never_came_is_missed(lab: Lab, live_patch: Trial, name: str) -> None:
    """One of the archives is not there when the script runs: refused by name."""
    files = live_patch.files(lab.new_bundle)
    guest = Landed(live_patch.vm.guest, _changed(live_patch, f"rm -f /var/cache/cloud/{name}", "true"))
    live_patch.refused(files, name, guest=guest)


@pytest.mark.scenario("S38-other-architecture-refused", untouched=True)
def test_a_bundle_for_another_architecture_is_refused(lab: Lab, live_patch: Trial, tmp_path: Path) -> None:
    """The bundle says that it is for arm64: refused with the reason."""
    bundle = _restated(lab, tmp_path, lambda facts: replace(facts, architecture="arm64"))
    live_patch.refused(live_patch.files(bundle), "arm64")


@pytest.mark.scenario("S41-unknown-type-refused", untouched=True)
def test_an_unknown_vm_type_is_refused(lab: Lab, live_patch: Trial) -> None:
    """The VM's command line names a type that nobody knows: refused by name."""
    odd = (
        f"cp -a {_CMDLINE} /dev/shm/cmdline && sed 's/type=[a-z]*/type=nosuch/' /dev/shm/cmdline >{_CMDLINE}"
    )
    around = _changed(live_patch, odd, f"cat /dev/shm/cmdline >{_CMDLINE}; rm /dev/shm/cmdline")
    live_patch.refused(live_patch.files(lab.new_bundle), "nosuch", around)


@pytest.mark.scenario("S51-line-ends-refused", untouched=True)
def test_a_script_with_other_line_ends_changes_nothing(lab: Lab, live_patch: Trial) -> None:
    """The patch script has come with CR LF, as from a careless checkout: it fails before it does anything."""
    files = live_patch.files(lab.new_bundle)
    script = files.contents[layout.SCRIPT].replace(b"\n", b"\r\n")
    live_patch.tidy = False
    live_patch.refused(_with(files, layout.SCRIPT, script), r".")


@pytest.mark.scenario("S53-other-release-refused", untouched=True)
def test_a_bundle_for_much_newer_templates_is_refused(lab: Lab, live_patch: Trial, tmp_path: Path) -> None:
    """The bundle asks for a template that is newer than the VM's: refused with the reason."""
    bundle = _restated(lab, tmp_path, lambda facts: replace(facts, minimum_template="9.9.0"))
    live_patch.refused(live_patch.files(bundle), r"9\.9\.0|older")


@pytest.mark.scenario("S04-refused-then-patched", untouched=True)
def test_a_vm_that_has_refused_takes_a_healthy_bundle(lab: Lab, live_patch: Trial) -> None:
    """After refusals a healthy bundle, not forced, really patches."""
    files = live_patch.files(lab.new_bundle)
    live_patch.refused(_with(files, layout.SCRIPTS, b""), layout.SCRIPTS)
    healthy = live_patch.patch(lab.new_bundle)
    live_patch.require("patch.converges", "" if healthy.patched else f"it fails: {healthy.details}")


def _restated(lab: Lab, folder: Path, restate: Callable[[Facts], Facts]) -> Path:
    """Return the bundle under test with another word in its manifest; one without a manifest is skipped."""
    try:
        return derive(lab.new_bundle, folder / "restated", lambda _: None, restate=restate)
    except UsageError as error:
        pytest.skip(f"{error}")
