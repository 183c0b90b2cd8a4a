"""The transport of rules: single files, the aggregate file, and their delivery to a router."""

from __future__ import annotations

import json
import shlex
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from bundle.errors import CheckFailed, InfrastructureError
from harness.guest.protocols import CommandResult, Guest

_FOLDER = "/var/cache/cloud"
# Seconds for the whole aggregate; each item adds ten (the server's own bound counts items in milliseconds).
_BASE_DEADLINE = 600.0
# What CloudStack's own program says of an item that failed, before it ends with 0.
_FAILED = "execution failed"
# A guest leaves the file of a tier that it knows where it lies.
_STAYS = "guest_network"


@dataclass(frozen=True)
class Databag:
    """One rule file.

    Attributes:
        stem: its name up to ``.json``.
        content: the message, with the keys that CloudStack sends.
        delete_from_processed_cache: whether the guest is to keep no copy.
        scripts: commands that follow it.
    """

    stem: str
    content: dict[str, Any]
    delete_from_processed_cache: bool = False
    scripts: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the one line of JSON that is sent."""
        flag = {"delete_from_processed_cache": self.delete_from_processed_cache}
        return json.dumps({**self.content, **flag}, separators=(",", ":"), ensure_ascii=False)

    def commands(self, name: str) -> list[str]:
        """Return what applies the file of that name."""
        forget = " false" if self.delete_from_processed_cache else ""
        return [f"/opt/cloud/bin/update_config.py {name}{forget}", *self.scripts]


@dataclass(frozen=True)
class Plug:
    """The host gives the router a NIC, the next ``ethN``."""

    device: str


@dataclass(frozen=True)
class Direct:
    """One rule file that is applied at once, by itself."""

    bag: Databag


@dataclass(frozen=True)
class Together:
    """Rule files that travel in one aggregate file; there is one even for none."""

    bags: tuple[Databag, ...]


DeliveryStep: TypeAlias = Plug | Direct | Together


@dataclass(frozen=True)
class Aggregate:
    """Rule files that travel in one file and are applied by one command."""

    path: str
    text: str
    command: str
    kept: tuple[str, ...] = field(default=())

    @property
    def data(self) -> bytes:
        """The bytes of the file."""
        return self.text.encode()


@dataclass(frozen=True)
class Applied:
    """The result of some steps: how many rule files, in how many seconds."""

    bags: int
    seconds: float


def new_id() -> str:
    """Return an identifier for a file: each one that is sent has its own."""
    return str(uuid.uuid4())


def bags_of(steps: Iterable[DeliveryStep]) -> tuple[Databag, ...]:
    """Return the rule files of some steps, in order."""
    found: list[Databag] = []
    for step in steps:
        found += [step.bag] if isinstance(step, Direct) else step.bags if isinstance(step, Together) else []
    return tuple(found)


def aggregate(bags: Sequence[Databag], name: Callable[[], str] = new_id) -> Aggregate:
    """Return the aggregate file for some databags.

    Args:
        bags: in the order in which they shall be applied.
        name: gives the identifiers that make the file names unique in the guest.
    """
    lines = ["#Apache CloudStack Virtual Router Config File", "<version>", "1.0", "</version>"]
    kept = []
    for bag in bags:
        file = f"{bag.stem}.json.{name()}"
        lines += ["<file>", f"{_FOLDER}/{file}", bag.text(), "</file>"]
        for command in bag.commands(file):
            lines += ["<script>", command, "</script>"]
        if not bag.delete_from_processed_cache:
            kept.append(file)
    path = f"{_FOLDER}/VR-{name()}.cfg"
    command = f"/opt/cloud/bin/vr_cfg.sh -c {path}"
    return Aggregate(path, "\n".join([*lines, ""]), command, tuple(kept))


def _no_host(step: Plug) -> None:
    raise InfrastructureError(f"nobody can plug in {step.device} here")


def deliver(guest: Guest, steps: Iterable[DeliveryStep], plug: Callable[[Plug], None] = _no_host) -> Applied:
    """Take steps one after the other, as the server and its KVM agent do.

    Args:
        guest: the router.
        steps: in order.
        plug: gives the router a NIC.

    Raises:
        CheckFailed: a rule file was not applied.
        InfrastructureError: the guest cannot be reached, or a NIC not be plugged in.
    """
    count, began = 0, time.monotonic()
    for step in steps:
        if isinstance(step, Plug):
            plug(step)
        elif isinstance(step, Direct):
            _apply_one(guest, step.bag)
            count += 1
        else:
            _apply_all(guest, step.bags)
            count += len(step.bags)
    return Applied(count, time.monotonic() - began)


def _apply_one(guest: Guest, bag: Databag) -> None:
    """Send one rule file and have it applied; the guest's own status says whether it was."""
    name = f"{bag.stem}.json.{new_id()}"
    guest.put(bag.text().encode(), f"{_FOLDER}/{name}", mode=0o600)
    for command in bag.commands(name):
        done = guest.run(command, deadline=_BASE_DEADLINE, check=False)
        if done.status != 0:
            raise CheckFailed(
                f"{guest.name}: applying {bag.stem} failed, status {done.status}: {_last(done)}"
            )


def _apply_all(guest: Guest, bags: Sequence[Databag]) -> None:
    """Send an aggregate and have it applied, and make sure that each rule file was.

    The guest's ``vr_cfg.sh`` of CloudStack 4.15.1 and later exits 0 although an item has failed, and skips
    the rest; so every rule file must be in the guest's archive of processed files then. That archive has the file that
    failed, too: what was said of it counts.
    """
    sent = aggregate(bags)
    guest.put(sent.data, sent.path, mode=0o600)
    done = guest.run(sent.command, deadline=_BASE_DEADLINE + 10 * len(bags), check=False)
    if done.status != 0:
        raise CheckFailed(
            f"{guest.name}: applying {len(bags)} rule files failed, status {done.status}: {_last(done)}"
        )
    if _FAILED in done.stderr:
        raise CheckFailed(
            f"{guest.name}: a rule file was not applied although the guest reported success: {_last_of(done, _FAILED)}",
            hint="read /var/log/cloud.log of the guest",
        )
    if not sent.kept:
        return
    names = " ".join(shlex.quote(name) for name in sent.kept)
    # A pattern, for a tier that was known already is in the folder above.
    archive = (
        f"cd {_FOLDER}/processed || exit; for n in {names}; do case $n in {_STAYS}.*) [ -e ../$n ] && continue;; esac; "
        f'[ -e "$n.gz" ] || echo "$n"; done'
    )
    listing = guest.run(archive, check=False)
    if listing.status != 0:
        raise InfrastructureError(f"{guest.name}: cannot list {_FOLDER}/processed: {listing.stderr.strip()}")
    if missing := listing.stdout.split():
        raise CheckFailed(
            f"{guest.name}: {missing[0]} was not applied although the guest reported success",
            hint="read /var/log/cloud.log of the guest",
        )


def _last_of(done: CommandResult, word: str) -> str:
    """Return the last line with a word that a command said on standard error."""
    return [line for line in done.stderr.splitlines() if word in line][-1].strip()


def _last(done: CommandResult) -> str:
    """Return the last line of what a command said."""
    return (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
