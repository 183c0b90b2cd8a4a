"""Operators: what a person changed in a VM by hand, before or while it is patched."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from harness.guest.guest import SshGuest
from harness.lab.faults.moments import Moment
from harness.lab.faults.outside import outside
from harness.lab.faults.writers import Beside, at
from harness.vm.system import SystemVm


@outside("operator.writes", "a person has written a file of their own, or changed one")
def writes(vm: SystemVm, path: str, content: bytes) -> Iterator[None]:
    """Write a file; it stays."""
    vm.guest.run(f"mkdir -p {shlex.quote(path.rpartition('/')[0])}")
    vm.guest.run(f"cat >{shlex.quote(path)}", stdin=content)
    yield


@outside("operator.mounts", "a person has mounted a file system below an owned folder")
def mounts(vm: SystemVm, folder: str) -> Iterator[None]:
    """Mount a file system in memory with one file on a folder, which is made if it is not there."""
    quoted = shlex.quote(folder)
    vm.guest.run(f"mkdir -p {quoted} && mount -t tmpfs operator {quoted} && echo kept >{quoted}/kept")
    try:
        yield
    finally:
        vm.guest.run(f"umount {quoted} && rmdir {quoted}", check=False)


@outside("operator.links", "a person has put a link to a folder of his own below an owned folder")
def links(vm: SystemVm, path: str, folder: str) -> Iterator[None]:
    """Make a link at a path to a folder with one file; both go when the fault ends."""
    link, own = shlex.quote(path), shlex.quote(folder)
    vm.guest.run(f"mkdir -p {own} && echo kept >{own}/kept && ln -s {own} {link}")
    try:
        yield
    finally:
        vm.guest.run(f"rm -rf -- {link} {own}", check=False)


@outside("operator.acts", "a person types a command while the patch is at a moment")
def acts(vm: SystemVm, command: str, moment: Moment) -> Iterator[Beside]:
    """Run a command from another session at a moment of the patch."""

    def act(guest: SshGuest, _told: Beside) -> None:
        guest.run(command)

    yield from at(vm, moment, act)
