"""The machine of a tenant guest: its initramfs and its domain."""

from __future__ import annotations

from pathlib import Path

from bundle.errors import InfrastructureError
from harness.image import Image
from harness.machine.accel import Accelerator
from harness.machine.domain import DomainSpec, Nic
from harness.vm.tenant.tenant import KERNEL_ARGUMENTS, TenantSpec, write_initrd


def domain_of(
    spec: TenantSpec, image: Image, accelerator: Accelerator, nics: tuple[Nic, ...], initrd: Path,
    ram_file: Path | None, *, resume: bool,
) -> DomainSpec:  # fmt: skip
    """Return the domain of a tenant guest, without what a launch adds; its initramfs is written if it is missing.

    Args:
        spec: whose hosts it has.
        image: the template whose kernel it boots.
        accelerator: what runs it.
        nics: its NICs.
        initrd: where its initramfs lies.
        ram_file: file of its RAM, for one that is frozen or restored.
        resume: it is restored.

    Raises:
        InfrastructureError: the template has no kernel that it could boot.
    """
    if not image.direct_boot:
        raise InfrastructureError(f"template {image.key} has no kernel that tenants could boot")
    if not initrd.exists():
        write_initrd(initrd, spec, image.modules(), image.root_device)
    return DomainSpec(
        name="", uuid="", accelerator=accelerator, console_socket=Path(), console_log=Path(),
        memory_mib=spec.memory_mib, vcpus=1, description="tenant", kernel=image.kernel, initrd=initrd,
        disk=image.path if spec.programs else None, disk_read_only=spec.programs,
        cmdline=f"{KERNEL_ARGUMENTS} {accelerator.kernel_arguments}".rstrip(), nics=nics,
        ram_file=ram_file, ram_shared=not resume, incoming=resume,
    )  # fmt: skip
