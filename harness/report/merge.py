"""One run from its shards: their events on one clock, and nothing that no shard has seen to its end."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import PurePosixPath

from bundle.errors import CheckFailed, UsageError
from harness.record.clocks import moved
from harness.record.events import RUN_STARTED, Event, Json, read_with_gaps
from harness.record.results import ResultsFolder
from harness.record.shards import digest_of

_WORST_FIRST = ("error", "failed", "passed")


@dataclass(frozen=True)
class _Part:
    """One shard's run: its events, what it planned and how it ended."""

    results: ResultsFolder
    events: list[Event]
    planned: Event
    end: Event

    @property
    def number(self) -> int:
        return int(str(self.planned["shard"]).split("/")[0])

    @property
    def count(self) -> int:
        return int(str(self.planned["shard"]).split("/")[1])

    @property
    def name(self) -> str:
        return f"shard {self.planned['shard']} (run {self.results.name})"

    @property
    def began(self) -> float:
        """Wall clock at its begin, in seconds since the epoch."""
        return datetime.fromisoformat(self.events[0].at).timestamp() - self.events[0].t


def merge(shards: Sequence[ResultsFolder], target: ResultsFolder) -> None:
    """Write the event log of one run, with the logs, from the runs of all its shards.

    Args:
        shards: in any order.
        target: an empty folder.

    Raises:
        CheckFailed: a shard is missing, is there twice, has died or never begun a scenario that it planned, or they
            are not of one run: other options, scenarios, or another bundle.
        UsageError: a run is none of a shard, or the target has a log.
    """
    parts = _parts(shards)
    if target.events.exists():
        raise UsageError(f"{target.events} is there already")
    zero = min(part.began for part in parts)
    moved = [event for part in parts for event in _moved(part, part.began - zero)]
    moved.sort(key=lambda event: event.t)
    first = min(parts, key=lambda part: part.began).events[0]
    last = max((event for event in moved), key=lambda event: event.t)
    begin = Event(0.0, first.at, RUN_STARTED, {"monotonic": 0.0})
    end = Event(last.t, last.at, "run_finished", _verdict(parts))
    for part in parts:
        if (part.results.folder / "logs").is_dir():
            shutil.copytree(part.results.folder / "logs", target.folder / "logs" / _folder(part))
    lines = [
        json.dumps({"t": event.t, "at": event.at, "kind": event.kind, **event.fields})
        for event in (begin, *moved, end)
    ]
    target.events.write_text("\n".join(lines) + "\n", encoding="utf-8")


def check(shards: Sequence[ResultsFolder]) -> None:
    """Refuse what :func:`merge` would refuse, before there is a folder for it.

    Raises:
        CheckFailed: see there.
        UsageError: see there.
    """
    _parts(shards)


def _parts(shards: Sequence[ResultsFolder]) -> list[_Part]:
    parts = sorted((_part(results) for results in shards), key=lambda part: part.number)
    _check(parts)
    return parts


def _part(results: ResultsFolder) -> _Part:
    events, skipped = read_with_gaps(results.events)
    planned = [event for event in events if event.kind == "planned"]
    if not planned:
        raise UsageError(
            f"run {results.name} is no shard: it says not what it planned (see 'sysvm run --shard')"
        )
    name = f"shard {planned[0]['shard']} (run {results.name})"
    end = [event for event in events if event.kind == "run_finished"]
    if not end:
        raise CheckFailed(f"{name} has died: it recorded no end")
    if skipped:
        raise CheckFailed(f"{name}: line {skipped[0]} of its event log is cut off or no JSON")
    return _Part(results, events, planned[0], end[-1])


def _check(parts: Sequence[_Part]) -> None:
    count = parts[0].count
    numbers = [part.number for part in parts]
    for part in parts:
        if part.count != count:
            raise CheckFailed(f"{part.name} and {parts[0].name} are not of one run")
    if missing := sorted(set(range(1, count + 1)) - set(numbers)):
        raise CheckFailed(f"shard {', '.join(f'{number}/{count}' for number in missing)} is missing")
    if double := [number for number, times in Counter(numbers).items() if times > 1]:
        raise CheckFailed(f"shard {double[0]}/{count} is there {numbers.count(double[0])} times")
    for part in parts:
        _same(part, parts[0], "scenarios", part.planned["whole"], parts[0].planned["whole"])
        _same(part, parts[0], "options", _options(part), _options(parts[0]))
        ended = {event["scenario"] for event in part.events if event.kind == "scenario_finished"}
        if lost := [name for name in part.planned["scenarios"] if name not in ended]:
            raise CheckFailed(f"{part.name}: {len(lost)} scenarios have no end: {', '.join(lost[:5])}")
    digests = {digest: part for part in parts for digest in _bundles(part)}
    if len(digests) > 1:
        told = ", ".join(f"{digest[:12]} in {part.name}" for digest, part in digests.items())
        raise CheckFailed(f"the shards tested {len(digests)} bundles: {told}")
    if double_ids := [name for name, times in Counter(_planned(parts)).items() if times > 1]:
        raise CheckFailed(
            f"{double_ids[0]} is planned in several shards", hint="give all of them one --balance"
        )
    if digest_of(list(_planned(parts))) != parts[0].planned["whole"]:
        raise CheckFailed("some scenarios are planned in no shard", hint="give all of them one --balance")


def _same(part: _Part, first: _Part, what: str, own: Json, other: Json) -> None:
    if own != other:
        raise CheckFailed(f"{part.name} and {first.name} were told other {what}")


def _planned(parts: Sequence[_Part]) -> Iterator[str]:
    for part in parts:
        yield from part.planned["scenarios"]


def _options(part: _Part) -> Json:
    return next((event["options"] for event in part.events if event.kind == "options"), {})


def _bundles(part: _Part) -> set[str]:
    """Return the digests of the bundles that VMs were patched with."""
    found = (event["subject"].get("bundle", {}) for event in part.events if event.kind == "subject")
    return {json.dumps(bundle.get("files", {}), sort_keys=True) for bundle in found}


def _moved(part: _Part, by: float) -> Iterator[Event]:
    """Yield a shard's events on the clock of the whole run; its begin and its ends are the shard's own."""
    for event in part.events:
        if event.kind in {RUN_STARTED, "run_finished"}:
            continue
        here = moved(event, by)
        fields = {**here.fields, "shard": str(part.planned["shard"])}
        if event.kind == "logs":
            fields["files"] = [_place(part, file) for file in fields["files"]]
        yield replace(here, fields=fields)


def _folder(part: _Part) -> str:
    return f"shard-{part.number}"


def _place(part: _Part, file: str) -> str:
    """Return where a log lies in the merged run."""
    top, *rest = PurePosixPath(file).parts
    return str(PurePosixPath(top, _folder(part), *rest))


def _verdict(parts: Sequence[_Part]) -> dict[str, Json]:
    worst = min(
        (str(part.end["verdict"]) for part in parts),
        key=lambda word: _WORST_FIRST.index(word) if word in _WORST_FIRST else 0,
    )
    reasons = [f"{part.name}: {part.end.get('reason')}" for part in parts if part.end.get("reason")]
    return {"verdict": worst, "reason": "; ".join(reasons)}
