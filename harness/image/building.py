"""Build an image: base, the release's changes, disk; from the cache where nothing changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bundle.errors import InfrastructureError, UsageError
from bundle.paths import payload_root
from harness.host import cache, sources
from harness.image import base, boot_kernel, customize, disk, images, sbom
from harness.image.images import Image
from harness.image.spec import ImageSpec, Plan, resolve
from harness.record.steps import Progress, Silent

ROOT_DEVICE = "/dev/vda1"
_SCRIPTS = "cloud-scripts.tgz"


def build(spec: ImageSpec, progress: Progress | None = None) -> Image:
    """Return the image that was asked for, from the cache or built now.

    Raises:
        UsageError: unknown release, or the bundle has no readable scripts.
        InfrastructureError: a tool is missing or failed; nothing half done remains.
    """
    plan = resolve(spec)
    scripts = _scripts(spec.bundle)
    if spec.source is not None:
        scripts = customize.without_keystore(scripts)
    key = key_of(plan, scripts)
    path = cache.entry(images.KIND, key)
    if not path.is_dir():
        shown = progress or Silent()
        for kind in (images.KIND, base.KIND):
            cache.collect_partials(kind)
        try:
            start = base.obtain(plan, shown)
            cache.obtain(images.KIND, key, lambda folder: _make(plan, scripts, start, key, folder, shown))
        except OSError as error:
            raise InfrastructureError(
                f"image build in {cache.cache_root()}: {error.strerror or error}"
            ) from None
    return images.load(path)


def key_of(plan: Plan, scripts: bytes) -> str:
    """Return the image's key: everything that decides its bytes."""
    template = payload_root() / "template"
    inputs = [p for p in template.rglob("*") if p.is_file() and "hooks" not in p.parts]
    return cache.key_of(
        base.key_of(plan),
        plan.release.name,
        plan.template,
        plan.release.signature,
        plan.release.disk_mib,
        plan.release.var_mib,
        [plan.units.disabled, plan.units.masked, plan.units.enabled],
        cache.digest_of_files(inputs),
        sources.digest_behind(__name__),
        hashlib.sha256(scripts).hexdigest(),
    )


def _scripts(bundle: Path) -> bytes:
    try:
        return (bundle / _SCRIPTS).read_bytes()
    except OSError as error:
        raise UsageError(
            f"bundle {bundle}: cannot read {_SCRIPTS}: {error.strerror}",
            hint="make one with 'sysvm bundle build'",
        ) from None


def _make(plan: Plan, scripts: bytes, start: base.Base, key: str, folder: Path, progress: Progress) -> None:
    release = plan.release
    layout = disk.DiskLayout.of(key, disk_mib=release.disk_mib, var_mib=release.var_mib)
    objects = folder / "objects"
    with progress.step(f"template {plan.template}: scripts, units, identity"):
        tree = start.tree(objects)
        found = boot_kernel.find(tree)
        initrd = boot_kernel.initramfs(tree, found)
        status = tree.read("var/lib/dpkg/status").decode()
        customize.apply(tree, plan, layout, found, initrd, scripts)
        signature = tree.read(customize.SIGNATURE).decode().strip()
    (folder / images.SCRIPTS).write_bytes(scripts)
    with progress.step(f"disk of {release.disk_mib} MiB"):
        disk.write(tree, layout, folder / images.DISK)
    cache.remove(objects)
    with progress.step("kernel, initramfs, bill of materials"):
        (folder / images.KERNEL).write_bytes(found.image)
        (folder / images.INITRD).write_bytes(initrd)
        save_modules(folder, found.modules)
        packages = sbom.packages(status)
        subject = sbom.ImageSubject(plan.template, plan.debian.number, plan.stand_in)
        (folder / images.SBOM).write_text(sbom.render(packages, subject, key, plan.epoch))
        images.save(
            folder,
            release=release.name,
            template=plan.template,
            debian=plan.debian.number,
            kind=plan.kind,
            stand_in=plan.stand_in,
            digest=file_digest(folder / images.DISK),
            signature=signature,
            kernel_version=found.version,
            root_device=ROOT_DEVICE,
            base=start.key,
            size=layout.size,
            packages=len(packages),
            left_out=list(plan.left_out),
        )


def save_modules(folder: Path, modules: dict[str, bytes]) -> None:
    """Write modules so that their names tell the load order."""
    (folder / images.MODULES).mkdir()
    for number, (name, content) in enumerate(modules.items()):
        (folder / images.MODULES / f"{number:02}-{name}").write_bytes(content)


def file_digest(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
