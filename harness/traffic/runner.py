"""Runs all probes beside whatever the test does, in one thread, on the clock of the event log."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Self

from harness.host import wait
from harness.record.events import EventLog
from harness.traffic.measurement import Budget, ProbeResult, Recorder
from harness.traffic.probes import RATE, Probe

# Seconds between two looks at whether this process runs.
_BEAT = 0.05
# Longest gap in milliseconds that a probe may have when a scenario says nothing else.
DEFAULT_BUDGET_MS = 500.0


class Traffic:
    """A set of probes, as a context manager.

    Use::

        with Traffic([HttpProbe("load balancer", "127.0.0.1", 8080)]) as traffic:
            patch(...)
        for result in traffic.results: ...
    """

    def __init__(self, probes: Sequence[Probe], *, reported: Mapping[str, float] | None = None) -> None:
        """Prepare probes.

        Args:
            probes: run by this object.
            reported: probes that run elsewhere, by name with their requests a second: see :meth:`recorder`.
        """
        self._probes = tuple(probes)
        rates = {probe.name: probe.rate for probe in probes} | dict(reported or {})
        if len(rates) != len(self._probes) + len(reported or {}):
            raise ValueError(f"two probes have the same name: {', '.join(sorted(rates))}")
        self._rates = rates
        self._recorders: dict[str, Recorder] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._stalls: list[tuple[float, float]] = []
        self.results: tuple[ProbeResult, ...] = ()

    def __enter__(self) -> Self:
        """Start all probes."""
        now = time.monotonic()
        self._recorders = {name: Recorder(name, 1 / rate, started=now) for name, rate in self._rates.items()}
        running = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(running,), name="traffic", daemon=True)
        self._thread.start()
        running.wait()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all probes and make their results."""
        ended = time.monotonic()
        if self._loop and self._stop and self._thread:
            with contextlib.suppress(RuntimeError):  # the loop is closed already when a probe broke
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        self.results = tuple(recorder.result(ended, self._stalls) for recorder in self._recorders.values())
        if self._failure is not None:
            raise RuntimeError("a probe broke") from self._failure

    def settle(self, patience: float, stretch: Callable[[], float] = wait.as_long) -> None:
        """Wait until each probe was answered once, also those that report, so that all of them watch what comes next.

        Args:
            patience: seconds; a probe that has no answer by then asks on, and its result tells.
            stretch: as in :func:`wait.until`.
        """
        recorders = self._recorders.values()
        with contextlib.suppress(wait.DeadlineExceeded):
            wait.until(
                lambda: all(recorder.was_answered for recorder in recorders),
                "first answers",
                patience,
                stretch=stretch,
            )

    def calm(self) -> dict[str, float | None]:
        """Judge only what comes now; returns the longest gap of each probe until now, see :meth:`Recorder.calm`."""
        return {name: recorder.calm() for name, recorder in self._recorders.items()}

    def call(self, ending: str) -> None:
        """Add an ending to the name of every result, once they are made, to tell one phase of a patch from another."""
        self.results = tuple(replace(result, name=f"{result.name}{ending}") for result in self.results)

    def recorder(self, name: str) -> Recorder:
        """Return where a probe that runs elsewhere reports, such as the pings of a tenant."""
        return self._recorders[name]

    def _run(self, running: threading.Event) -> None:
        try:
            asyncio.run(self._main(running))
        except BaseException as error:
            self._failure = error
        finally:
            running.set()

    async def _main(self, running: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        running.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_itself(self._stop))
            for probe in self._probes:
                group.create_task(probe.run(self._recorders[probe.name], self._stop))

    async def _watch_itself(self, stop: asyncio.Event) -> None:
        """Note when this process did not run although it should: starved, stopped, or on a host that slept."""
        while not stop.is_set():
            due = time.monotonic() + _BEAT
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _BEAT)
            if (now := time.monotonic()) - due > _BEAT:
                self._stalls.append((due, now))

    def budgets(self, limits: Mapping[str, float] | None = None, stretch: float = 1.0) -> tuple[Budget, ...]:
        """Return the results as the checks want them.

        Args:
            limits: longest gap in milliseconds by name of the probe; others get ``DEFAULT_BUDGET_MS``.
            stretch: what the host made of a millisecond of the VM.
        """
        return tuple(
            Budget(
                name=result.name,
                sent=result.sent,
                longest_gap_ms=result.longest_gap_ms,
                budget_ms=(limits or {}).get(result.name, DEFAULT_BUDGET_MS),
                broken_streams=result.broken_streams,
                streams=result.streams,
                stretch=stretch,
                sure_gap_ms=result.sure_gap_ms,
                lost_ms=result.lost_ms,
            )
            for result in self.results
        )

    def record(self, log: EventLog, scenario: str, limits: Mapping[str, float] | None = None) -> None:
        """Write one event a probe, its times on the clock of the log."""
        zero = log.monotonic_zero
        for result, budget in zip(self.results, self.budgets(limits), strict=True):
            log.emit("probe", scenario=scenario, budget_ms=budget.budget_ms, **asdict(result.shifted(zero)))


__all__ = ["DEFAULT_BUDGET_MS", "RATE", "Traffic"]
