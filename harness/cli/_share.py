"""The work of ``sysvm cache push`` and ``sysvm cache pull``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bundle.errors import Exit, UsageError
from bundle.sink import tell, tell_json
from harness.host import cache
from harness.host.cache import GOLDEN
from harness.host.hypervisor import hypervisor
from harness.image import images
from harness.lab.here import Here
from harness.vm import golden, retention
from harness.vm.depot import places
from harness.vm.depot.places import Depot
from harness.vm.depot.pull import HostParts, Receiver, misfit, nearest
from harness.vm.depot.push import Sender


@dataclass
class _Told:
    """What became of each entry, told at once to a person and at the end to a machine."""

    as_json: bool
    rows: list[dict[str, object]] = field(default_factory=list)

    def entry(self, kind: str, key: str, outcome: str, reasons: Sequence[str] = ()) -> None:
        """Tell of one entry."""
        self.rows.append({"kind": kind, "key": key, "outcome": outcome, "reasons": list(reasons)})
        if not self.as_json:
            tell(f"{kind} {key[:12]}: {outcome}" + (f" ({'; '.join(reasons)})" if reasons else ""))

    def end(self, **totals: int) -> None:
        """Tell the sums."""
        if self.as_json:
            tell_json({"entries": self.rows, **totals})
        else:
            tell(", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in totals.items()))


def push(address: str, keys: Sequence[str], *, again: bool, as_json: bool) -> None:
    """Send entries of the cache, all without keys.

    Raises:
        UsageError: a key is none of the cache, or the depot is read only.
        CheckFailed: an entry is damaged.
    """
    here = {kind: [entry.key for entry in retention.entries() if entry.kind == kind] for kind in _kinds()}
    chosen = _chosen(here, keys, "the cache")
    told = _Told(as_json)
    with _open(address) as depot:
        sender, done = Sender(depot, again), set[str]()
        for key in chosen[GOLDEN]:
            for entry in sender.golden(key):
                told.entry(entry.kind, entry.key, "sent")
                done.add(entry.key)
        for key in chosen[images.KIND]:
            if key not in done:
                sender.image(key)
                told.entry(images.KIND, key, "sent")
    told.end(bytes_sent=sender.sent, bytes_there_already=sender.spared)


def pull(address: str, keys: Sequence[str], *, as_json: bool) -> int:
    """Fetch entries of a depot, all that fit this host without keys; returns the exit status.

    Raises:
        UsageError: the address is no depot.
        CheckFailed: what the depot has is damaged.
    """
    told = _Told(as_json)
    with _open(address) as depot:
        depot.require()
        there = depot.keys()
        known = [key for key in keys if _matching(there, key)]
        chosen = _chosen(there, known, address) if known or not keys else {kind: [] for kind in _kinds()}
        with hypervisor() as host:
            receiver = Receiver(depot, (host.uid, host.gid))
            for key in chosen[images.KIND]:
                told.entry(images.KIND, key, "fetched" if receiver.image(key) else "there already")
            missed = _pull_snapshots(receiver, chosen[GOLDEN], Here(host).parts, told)
        for key in set(keys) - set(known):
            told.entry("?", key, "not in the depot", _why_not(depot, there[GOLDEN], key))
            missed += 1
        told.end(bytes_fetched=receiver.fetched)
    retention.keep_within(retention.limit())
    return Exit.FAILED if missed and keys else Exit.OK


def _pull_snapshots(receiver: Receiver, keys: Sequence[str], here: HostParts, told: _Told) -> int:
    """Fetch golden snapshots; returns how many cannot be used here."""
    missed = 0
    for key in keys:
        entry = receiver.depot.entry(GOLDEN, key)
        if reasons := misfit(receiver, entry, here):
            told.entry(GOLDEN, key, "of no use here", reasons)
            missed += 1
        else:
            told.entry(GOLDEN, key, "fetched" if receiver.golden(entry) else "there already")
    return missed


def _why_not(depot: Depot, there: Sequence[str], key: str) -> list[str]:
    """Return in what the nearest snapshot of a depot differs from one of this cache that the depot lacks."""
    folder = next((path for path in cache.entries(GOLDEN) if path.name.startswith(key)), None)
    recorded = golden.recorded(folder) if folder else None
    if not recorded:
        return []
    found = nearest(recorded["ingredients"], [depot.entry(GOLDEN, one) for one in there])
    return [f"the nearest is {found[0].key[:12]}", *found[1]] if found else ["there is no snapshot at all"]


def _kinds() -> tuple[str, ...]:
    return (images.KIND, GOLDEN)


def _matching(there: Mapping[str, Sequence[str]], key: str) -> list[tuple[str, str]]:
    return [(kind, one) for kind in _kinds() for one in there[kind] if key and one.startswith(key)]


def _chosen(there: Mapping[str, Sequence[str]], keys: Sequence[str], where: str) -> dict[str, list[str]]:
    """Return the keys that a person means, by kind.

    Raises:
        UsageError: one is not there, or more than one begins so.
    """
    if not keys:
        return {kind: list(there[kind]) for kind in _kinds()}
    chosen: dict[str, list[str]] = {kind: [] for kind in _kinds()}
    for key in keys:
        found = _matching(there, key)
        if len(found) != 1:
            reason = f"{len(found)} entries of {where} begin with" if found else f"{where} has no entry"
            raise UsageError(f"{reason} {key!r}", hint="'sysvm cache list' shows those of the cache")
        kind, one = found[0]
        chosen[kind].append(one)
    return chosen


@contextmanager
def _open(address: str) -> Iterator[Depot]:
    depot = places.find(address)
    try:
        yield depot
    finally:
        depot.close()
