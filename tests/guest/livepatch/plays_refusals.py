"""Scenarios in which the script has to refuse before it writes anything."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bundle.seal.signer import key_id
from tests.guest.livepatch import bundles
from tests.guest.livepatch.folder_vm import FolderVm
from tests.guest.livepatch.vm_factory import (
    VmFactory,
    expect_patched,
    expect_refused,
    expect_rolled_back,
    scenario,
)

_SIGNED = "signatures and manifests are those of our bundles"
_ASKED = "it is asked by an option of our script"


def _refuses(
    world: VmFactory, reason: str, bundle: bundles.Bundle, change: Callable[[FolderVm], None] | None = None
) -> None:
    with world.vm() as lab:
        if change:
            change(lab)
        with expect_refused(lab, reason) as check:
            check(lab.patch(bundle))


def _remove(path: str) -> Callable[[FolderVm], None]:
    return lambda lab: (lab.root / path).unlink()


def _put(path: str, text: str) -> Callable[[FolderVm], None]:
    def change(lab: FolderVm) -> None:
        (lab.root / path).parent.mkdir(parents=True, exist_ok=True)
        (lab.root / path).write_text(text)

    return change


def _flipped(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


@scenario("S02", legacy_fails=True)
def refuses_damaged_scripts(world: VmFactory) -> None:
    good = world.new()
    for damaged in (good.scripts[: len(good.scripts) // 2], b"", b"not gzip", _flipped(good.scripts)):
        _refuses(world, "cloud-scripts.tgz", replace(good, scripts=damaged))


@scenario("S03", legacy_fails=True)
def refuses_a_damaged_agent(world: VmFactory) -> None:
    good = world.new()
    for damaged in (good.agent[: len(good.agent) // 2], b"", _flipped(good.agent)):
        _refuses(world, "agent.zip", replace(good, agent=damaged))


@scenario("S03", legacy_fails=True)
def refuses_a_missing_agent(world: VmFactory) -> None:
    with world.vm("secstorage") as lab:
        lab.land(world.new())
        (lab.root / "var/cache/cloud/agent.zip").unlink()
        with expect_refused(lab, "agent.zip is missing") as check:
            check(lab.run())


@scenario("S34", legacy_fails=True)
def refuses_a_bundle_that_is_not_complete(world: VmFactory) -> None:
    """A file that is missing, and one that is no file."""
    for kind in ("missing", "folder"):
        with world.vm() as lab:
            lab.land(world.new())
            (lab.root / "var/cache/cloud/cloud-scripts.tgz").unlink()
            if kind == "folder":
                (lab.root / "var/cache/cloud/cloud-scripts.tgz").mkdir()
            run = lab.run()
            assert run.status and (
                lab.foreign or "cloud-scripts.tgz is missing or unreadable" in run.output
            ), run


@contextlib.contextmanager
def small_disk(world: VmFactory, options: str, at: str = "") -> Iterator[FolderVm]:
    """Give a router on a file system of its own (or with one at a folder) with these limits."""
    folder = world.stage.folder / "small"
    with world.vm() as origin:
        target = folder / at if at else folder
        target.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", target], check=True)
        try:
            subprocess.run(["cp", "-a", "--", f"{origin.root}/.", folder], check=True)
            # As on a VM, /run is a file system of its own.
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder / "run"], check=True)
            subprocess.run(["cp", "-a", "--", f"{origin.root}/run/.", folder / "run"], check=True)
            yield FolderVm(folder, "router", foreign=origin.foreign)
        finally:
            subprocess.run(["umount", folder / "run"], check=False)
            subprocess.run(["umount", target], check=True)
            subprocess.run(["rm", "-rf", "--one-file-system", folder], check=True)


@scenario("S05", legacy_fails=True)
def refuses_a_disk_that_is_too_full(world: VmFactory) -> None:
    with small_disk(world, "size=8m") as lab:
        lab.land(world.new())
        _fill(lab.root / "var/filler", keep=64 * 1024)
        with expect_refused(lab, "file system / has") as check:
            check(lab.run())


@scenario("S05", legacy_fails=True)
def refuses_a_disk_without_inodes(world: VmFactory) -> None:
    with small_disk(world, "size=16m") as lab:
        lab.land(world.new())
        used = int(
            subprocess.run(
                ["stat", "-f", "-c", "%c %d", lab.root], check=True, capture_output=True
            ).stdout.split()[0]
        )
        free = int(
            subprocess.run(["stat", "-f", "-c", "%d", lab.root], check=True, capture_output=True).stdout
        )
        subprocess.run(["mount", "-o", f"remount,nr_inodes={used - free + 6}", lab.root], check=True)
        with expect_refused(lab, "inodes free") as check:
            check(lab.run())


@scenario("S05")
def checks_every_file_system_that_it_writes(world: VmFactory) -> None:
    with small_disk(world, "size=1200k", at="var") as lab:
        lab.land(world.new())
        with expect_refused(lab, "file system /var has") as check:
            check(lab.run())


@scenario("S05")
def patches_across_two_file_systems(world: VmFactory) -> None:
    with small_disk(world, "size=32m", at="var") as lab:
        expect_patched(lab.patch(world.new()), world.new(), lab)
    with small_disk(world, "size=32m", at="var") as lab:
        before = lab.state()
        expect_rolled_back(lab, lab.patch(world.broken()), before)


def _fill(path: Path, keep: int) -> None:
    info = subprocess.run(
        ["stat", "-f", "-c", "%a %S", path.parent], check=True, capture_output=True
    ).stdout.split()
    with path.open("wb") as file:
        file.truncate(0)
        file.write(b"\0" * (int(info[0]) * int(info[1]) - keep))


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    kind = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(*kind).decode()


def _trust(key: ec.EllipticCurvePrivateKey) -> Callable[[FolderVm], None]:
    return _put("etc/cloudstack/livepatch-trust.pem", _pem(key))


def signed(content: bundles.Content, key: ec.EllipticCurvePrivateKey) -> bundles.Bundle:
    """Build a bundle whose manifest is signed."""
    content = replace(content, key=content.key or key_id(key.public_key()))
    bundle = bundles.make(content)
    signature = key.sign(bundle.manifest.encode(), ec.ECDSA(hashes.SHA384()))
    return bundles.make(replace(content, signature=signature))


@scenario("S27", legacy_fails=True, own=_SIGNED)
def refuses_an_unsigned_bundle_where_a_trust_key_is_installed(world: VmFactory) -> None:
    _refuses(world, "the manifest is unsigned", world.new(), _trust(_key()))


@scenario("S27", legacy_fails=True, own=_SIGNED)
def refuses_a_bundle_of_another_signer(world: VmFactory) -> None:
    foreign = world.dress(signed(bundles.new_content(), _key()))
    _refuses(world, "was not made with a key in /etc/cloudstack/livepatch-trust.pem", foreign, _trust(_key()))


@scenario("S27", own=_SIGNED)
def takes_a_bundle_of_the_right_signer(world: VmFactory) -> None:
    key = _key()
    bundle = signed(bundles.new_content(), key)
    with world.vm() as lab:
        _trust(key)(lab)
        expect_patched(lab.patch(bundle), bundle, lab)


@scenario("S27", legacy_fails=True)
def refuses_a_path_outside_the_payload(world: VmFactory) -> None:
    for path in ("usr/bin/evil", "root/.ssh/authorized_keys", "etc/shadow", "var/cache/cloud/enabled_svcs"):
        content = bundles.new_content()
        content = replace(content, scripts=content.scripts | {path: (b"evil\n", 0o755)})
        _refuses(world, "outside the owned paths", world.make(content))
    content = replace(
        bundles.new_content(), scripts=bundles.new_content().scripts | {"etc/../usr/bin/evil": (b"", 0o755)}
    )
    _refuses(world, "unsound path", world.make(content))


@scenario("S27", legacy_fails=True, own=_SIGNED)
def refuses_a_member_that_the_manifest_does_not_name(world: VmFactory) -> None:
    content = replace(bundles.new_content(), extra=("opt/cloud/bin/stowaway",))
    _refuses(world, "which the manifest does not name", world.make(content))


@scenario("S27", legacy_fails=True, own=_ASKED)
def refuses_an_older_release_unless_asked(world: VmFactory) -> None:
    older = world.make(replace(bundles.new_content(), version="4.20.2.0", release="4.20"))
    _refuses(world, "older than the installed one", older)
    with world.vm() as lab:
        expect_patched(lab.patch(older, "--allow-downgrade"), older, lab)


@scenario("S27", legacy_fails=True, own=_SIGNED)
def refuses_an_older_build_of_the_release_unless_asked(world: VmFactory) -> None:
    """Numbers are compared as numbers, and a build without one is older than all that have one."""
    newer = world.make(replace(bundles.new_content(), build=1_767_225_600))
    for number in (999_999_999, 0):
        older = world.make(replace(bundles.new_content(), build=number))
        with world.vm() as lab:
            expect_patched(lab.patch(newer), newer, lab)
            with expect_refused(
                lab, f"build {number} of 4.22.0.0 is older than the installed one (1767225600)"
            ) as check:
                check(lab.patch(older))
            expect_patched(lab.patch(newer), newer, lab)
            expect_patched(lab.patch(older, "--allow-downgrade"), older, lab)


@scenario("S38", legacy_fails=True, own=_SIGNED)
def refuses_another_architecture(world: VmFactory) -> None:
    _refuses(
        world, "the bundle is for arm64", world.make(replace(bundles.new_content(), architecture="arm64"))
    )


@scenario("S21", legacy_fails=True, own=_SIGNED)
def refuses_a_template_that_is_too_old(world: VmFactory) -> None:
    content = replace(bundles.new_content(), minimum_template="4.20")
    release = _put("etc/cloudstack-release", "Cloudstack Release 4.15.1 Wed May 14 2025\n")
    _refuses(world, "template 4.15.1 is older than 4.20", world.make(content), release)


@scenario("S29", legacy_fails=True)
def refuses_without_the_list_of_services(world: VmFactory) -> None:
    _refuses(world, "enabled_svcs is missing", world.new(), _remove("var/cache/cloud/enabled_svcs"))
    _refuses(world, "names no service", world.new(), _put("var/cache/cloud/enabled_svcs", "\n"))


@scenario("S41", legacy_fails=True)
def refuses_an_unknown_type_of_vm(world: VmFactory) -> None:
    for text, reason in (
        ("template=domP type=toaster name=x\n", "the VM type toaster is unknown"),
        ("template=domP name=x\n", "names no type"),
        ("template=domP subtype=router\n", "names no type"),
        ("", "names no type"),
    ):
        _refuses(world, reason, world.new(), _put("var/cache/cloud/cmdline", text))
    _refuses(world, "cmdline is missing", world.new(), _remove("var/cache/cloud/cmdline"))


@scenario("S41", legacy_fails=True)
def refuses_a_vm_that_still_boots(world: VmFactory) -> None:
    _refuses(world, "boot of this VM has not finished", world.new(), _remove("var/cache/cloud/boot_up_done"))


@scenario("S35", legacy_fails=True, own="how much memory a script needs is its own affair")
def refuses_without_memory(world: VmFactory) -> None:
    with world.vm() as lab:
        lab.land(world.new())
        (lab.root / "run/lab/meminfo").write_text("MemTotal: 262144 kB\nMemAvailable: 4096 kB\n")
        process = lab.start(
            "-c", "mount --bind /run/lab/meminfo /proc/meminfo; exec bash /var/cache/cloud/patch-sysvms.sh"
        )
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 2 and b"only 4096 KiB of memory" in stderr, stderr


@scenario("S42", legacy_fails=True, own=_ASKED)
def refuses_changed_files_when_asked_to_be_strict(world: VmFactory) -> None:
    _refuses_strictly(world, "/etc/cron.hourly/watch was changed on this VM")


def _refuses_strictly(world: VmFactory, reason: str) -> None:
    with world.vm() as lab:
        (lab.root / "etc/cron.hourly/watch").write_text("the operator's\n")
        with expect_refused(lab, reason) as check:
            check(lab.patch(world.new(), "--strict"))


@scenario("S42", legacy_fails=True, own=_ASKED)
def refuses_changed_agent_files_when_asked_to_be_strict(world: VmFactory) -> None:
    """They are found only while the new folder is staged; nothing of the live system has changed by then."""
    with world.vm("consoleproxy") as lab:
        (lab.root / "usr/local/cloud/systemvm/conf/log4j-cloud.xml").write_text("the operator's\n")
        with expect_refused(lab, "log4j-cloud.xml was changed on this VM") as check:
            check(lab.patch(world.new(), "--strict"))
