"""Shards: a run in parts that any CI starts side by side, by whole cells, so that each golden snapshot is made once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from bundle.errors import SysvmError, UsageError
from harness.plugin.choosing import REFUSAL, cell_of, scenario_id, why_not
from harness.plugin.mark import scenario_of
from harness.plugin.options import option
from harness.plugin.session import run_of
from harness.record.shards import digest_of
from harness.report.history import cost_of, durations_of

_SHARD = re.compile(r"([1-9]\d{0,3})/([1-9]\d{0,3})")
# Seconds of a scenario of which no run tells how long it takes.
_UNKNOWN = 60.0
_WHOLE = pytest.StashKey[str]()


@dataclass(frozen=True)
class Shard:
    """One part of a run; ``number`` is 1 to ``count``."""

    number: int
    count: int

    def __str__(self) -> str:
        """Return it as ``--shard`` takes it."""
        return f"{self.number}/{self.count}"


def read_shard(text: str) -> Shard:
    """Return the shard that a text such as ``2/5`` names.

    Raises:
        UsageError: it names none.
    """
    match = _SHARD.fullmatch(text)
    if match is None or int(match[1]) > int(match[2]):
        raise UsageError(f"invalid --shard {text!r} (expected I/N, such as 2/5: the second of five)")
    return Shard(int(match[1]), int(match[2]))


def assign(costs: Mapping[str, float], count: int) -> dict[str, int]:
    """Return the shard of each cell: the dearest first, each to the shard that has least to do by then.

    Args:
        costs: seconds by cell.
        count: of shards.
    """
    loads = [0.0] * count
    found = {}
    for cell in sorted(costs, key=lambda name: (-costs[name], name)):
        lightest = min(range(count), key=lambda number: (loads[number], number))
        loads[lightest] += costs[cell]
        found[cell] = lightest + 1
    return found


class ShardPlugin:
    """A plugin that leaves to other shards what is theirs, and records what this one means to run."""

    @pytest.hookimpl(trylast=True)  # what nobody wants is gone by then
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the scenarios of this shard's cells.

        Raises:
            pytest.UsageError: the shard cannot be meant, or it has no cell.
        """
        try:
            shard = read_shard(option(config, "shard"))
            costs = _costs(items, option(config, "balance"))
            own = assign(costs, shard.count)
            if shard.number not in own.values():
                raise UsageError(
                    f"--shard {shard}: there are {len(costs)} cells, so at most {len(costs)} shards"
                )
        except SysvmError as error:
            config.stash[REFUSAL] = error.diagnostics()
            raise pytest.UsageError(error.diagnostics()) from None
        config.stash[_WHOLE] = digest_of([name for item in items if (name := scenario_id(item))])
        others = [
            item for item in items if scenario_id(item) is None or own[str(cell_of(item))] != shard.number
        ]
        if others:
            items[:] = [item for item in items if item not in others]
            config.hook.pytest_deselected(items=others)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Record what is planned: once, by whoever of the run has collected it first."""
        config = session.config
        worker = getattr(config, "workerinput", {}).get("workerid", "gw0")
        if config.getoption("collectonly") or worker != "gw0" or not session.items:
            return
        run_of(config).events.emit(
            "planned",
            shard=option(config, "shard"),
            whole=config.stash[_WHOLE],
            scenarios=[scenario_id(item) for item in session.items],
        )


def _costs(items: Sequence[pytest.Item], log: Path | None) -> dict[str, float]:
    """Return what each cell takes, in seconds: by an earlier run, or as if each scenario took as long."""
    known = durations_of([log]) if log is not None else {}
    costs: dict[str, float] = {}
    for item in items:
        identifier, declared = scenario_id(item), scenario_of(item)
        if identifier is None or declared is None:
            continue
        seconds = 0.0 if why_not(item) else cost_of(identifier, declared.name, known) or _UNKNOWN
        cell = str(cell_of(item))
        costs[cell] = costs.get(cell, 0.0) + seconds
    return costs
