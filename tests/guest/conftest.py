"""Options and the closing table of the guest tests."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.guest.livepatch.folder_vm import FolderVm, workshop
from tests.guest.livepatch.walk import Stage

T = TypeVar("T")
Tally = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("live patch")
    group.addoption("--full", action="store_true", help="every case instead of the seeded sample")
    group.addoption("--crash-walk", action="store_true", help="only the crash walk")
    group.addoption("--helper-walk", action="store_true", help="only the helper walk, whole")
    group.addoption("--pair-walk", action="store_true", help="only the walk of two deaths, whole")
    group.addoption(
        "--patch-script",
        metavar="FILE",
        help="judge this patch script by the plays that any script can be judged by",
    )
    group.addoption(
        "--sample", type=int, help="so many cases of a whole walk in each of its chunks, by the seed"
    )
    group.addoption("--interrupts", type=int, default=200, help="number of random interrupts")
    group.addoption("--walk-seed", type=int, default=20260722, help="seed of samples and random interrupts")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "scenario(*ids): rows of the table of field scenarios that a test plays"
    )
    config.addinivalue_line("markers", "another_script: plays a scenario with the script of --patch-script")
    if (script := config.getoption("--patch-script")) and not Path(script).is_file():
        raise pytest.UsageError(f"--patch-script {script}: no such file")
    config.addinivalue_line("markers", "crash_walk: stops the patch script at its crash points")
    config.addinivalue_line("markers", "helper_walk: lets each program that the patch script calls fail once")
    config.addinivalue_line("markers", "pair_walk: kills a patch, and the recovery that follows")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        reason = pytest.mark.skip(reason="the lab needs root for namespaces and chroot")
        for item in items:
            item.add_marker(reason)
    walks = [name for name in ("crash", "helper", "pair") if config.getoption(f"--{name}-walk")]
    if config.getoption("--patch-script"):
        _choose(config, items, lambda item: item.get_closest_marker("another_script") is not None)
        return
    _choose(config, items, lambda item: item.get_closest_marker("another_script") is None)
    if walks:
        _choose(config, items, lambda item: any(item.get_closest_marker(f"{name}_walk") for name in walks))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Cut the walks of helpers and pairs: four chunks of a sample, and more of a whole one, which takes an hour."""
    if "chunk" in metafunc.fixturenames and "chunks" in metafunc.fixturenames:
        config = metafunc.config
        whole = any(
            config.getoption(f"--{name}-walk")
            for name in ("helper", "pair")
            if metafunc.definition.get_closest_marker(f"{name}_walk")
        )
        count = 60 if whole and config.getoption("--sample") is None else 4
        metafunc.parametrize(("chunk", "chunks"), [(n, count) for n in range(count)], ids=range(count))


def _choose(config: pytest.Config, items: list[pytest.Item], wanted: Callable[[pytest.Item], bool]) -> None:
    left = [item for item in items if not wanted(item)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if wanted(item)]


def sampled(config: pytest.Config, rows: list[T], draw: random.Random) -> list[T]:
    """Return the rows of a whole walk, or as many as were asked for."""
    count: int | None = config.getoption("--sample")
    return rows if count is None else draw.sample(rows, min(count, len(rows)))


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Tally:
    """Count cases for the closing table: ``tally(name, cases, mixed, seconds of output...)``."""

    def add(name: str, cases: int = 1, mixed: int = 0) -> None:
        record_property("tally", [name, cases, mixed])

    return add


@pytest.fixture(autouse=True)
def _count_scenarios(request: pytest.FixtureRequest, tally: Tally) -> None:
    marker = request.node.get_closest_marker("scenario")
    for name in marker.args if marker else ():
        tally(name)


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """The VMs of this worker, to be cloned."""
    with workshop() as folder:
        yield Stage(folder)


@pytest.fixture
def lab(stage: Stage) -> Iterator[FolderVm]:
    """A router of the old release."""
    with stage.clone("router") as lab:
        yield lab


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    cases: Counter[str] = Counter()
    mixed: Counter[str] = Counter()
    lines: list[str] = []
    rival: set[tuple[str, str, str]] = set()
    for outcome in ("passed", "failed", "xfailed"):
        for report in terminalreporter.stats.get(outcome, []):
            for key, value in getattr(report, "user_properties", []):
                if key == "tally":
                    name, count, bad = value
                    cases[name] += count
                    mixed[name] += bad
                elif key == "line":
                    lines.append(str(value))
                elif key == "rival":
                    rival.add(tuple(value))
    if cases:
        terminalreporter.section("live patch")
        terminalreporter.write_line(f"seed {config.getoption('--walk-seed')}")
        terminalreporter.write_line(f"{'scenario':<44}{'cases':>7}{'mixed':>7}")
        for name in sorted(cases):
            terminalreporter.write_line(f"{name:<44}{cases[name]:>7}{mixed[name]:>7}")
        terminalreporter.write_line(f"{'all':<44}{cases.total():>7}{mixed.total():>7}")
    for line in sorted(set(lines)):
        terminalreporter.write_line(line)
    if rival:
        own = config.getoption("--patch-script")
        terminalreporter.section("what the script fails" if own else "what the rival fails, as it should")
        terminalreporter.write_line(f"{'row':<5}{'scenario':<58}what was seen")
        for row, name, seen in sorted(rival):
            terminalreporter.write_line(f"{row:<5}{name:<58}{seen}")
        terminalreporter.write_line(f"{len(rival)} scenarios in {len({row for row, _, _ in rival})} rows")
