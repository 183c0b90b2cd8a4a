"""The transport of rules: the aggregate file, and its delivery to a router."""

from __future__ import annotations

import json
import shlex
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bundle.errors import CheckFailed, InfrastructureError
from harness.guest.protocols import Guest

_FOLDER = "/var/cache/cloud"
# Seconds for the whole aggregate; each item adds ten (the server's own bound counts items in milliseconds).
_BASE_DEADLINE = 600.0


@dataclass(frozen=True)
class Databag:
    """One rule file. ``stem`` is its name up to ``.json``; ``content`` has the keys that CloudStack sends."""

    stem: str
    content: dict[str, Any]
    delete_from_processed_cache: bool = False

    def text(self) -> str:
        """Return the one line of JSON that is sent."""
        flag = {"delete_from_processed_cache": self.delete_from_processed_cache}
        return json.dumps({**self.content, **flag}, separators=(",", ":"))


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
    """What became of an aggregate: how many rule files, in how many seconds."""

    bags: int
    seconds: float


def new_id() -> str:
    """Return an identifier for a request."""
    return str(uuid.uuid4())


def aggregate(bags: Sequence[Databag], request: str) -> Aggregate:
    """Return the aggregate file for some databags.

    Args:
        bags: in the order in which they shall be applied.
        request: an identifier that makes the file names unique in the guest.
    """
    lines = ["#Apache CloudStack Virtual Router Config File", "<version>", "1.0", "</version>"]
    kept = []
    for number, bag in enumerate(bags):
        name = f"{bag.stem}.json.{request}-{number}"
        forget = " false" if bag.delete_from_processed_cache else ""
        lines += ["<file>", f"{_FOLDER}/{name}", bag.text(), "</file>"]
        lines += ["<script>", f"/opt/cloud/bin/update_config.py {name}{forget}", "</script>"]
        if not bag.delete_from_processed_cache:
            kept.append(name)
    path = f"{_FOLDER}/VR-{request}.cfg"
    command = f"/opt/cloud/bin/vr_cfg.sh -c {path}"
    return Aggregate(path, "\n".join([*lines, ""]), command, tuple(kept))


def apply(guest: Guest, bags: Sequence[Databag], request: str | None = None) -> Applied:
    """Send databags to a router and have them applied, and make sure that each one was.

    The guest's ``vr_cfg.sh`` of CloudStack 4.15.1 and later exits 0 although an item has failed, and skips
    the rest; so every rule file must be in the guest's archive of processed files then.

    Raises:
        CheckFailed: a rule file was not applied.
        InfrastructureError: the guest cannot be reached.
    """
    sent = aggregate(bags, request or new_id())
    guest.put(sent.data, sent.path)
    done = guest.run(sent.command, deadline=_BASE_DEADLINE + 10 * len(bags), check=False)
    if done.status != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise CheckFailed(
            f"{guest.name}: applying {len(bags)} rule files failed, status {done.status}: {last}"
        )
    names = " ".join(shlex.quote(name) for name in sent.kept)
    archive = f'cd {_FOLDER}/processed || exit; for n in {names}; do [ -e "$n.gz" ] || echo "$n"; done'
    listing = guest.run(archive, check=False)
    if listing.status != 0:
        raise InfrastructureError(f"{guest.name}: cannot list {_FOLDER}/processed: {listing.stderr.strip()}")
    if missing := listing.stdout.split():
        raise CheckFailed(
            f"{guest.name}: {missing[0]} was not applied although the guest reported success",
            hint="read /var/log/cloud.log of the guest",
        )
    return Applied(len(bags), done.seconds)
