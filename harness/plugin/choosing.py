"""Choosing: which scenario runs in which cells, and why another one cannot."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from bundle import catalogue
from harness.plugin.cells import Cell, cells, is_chosen
from harness.plugin.mark import Scenario, scenario_of
from harness.plugin.options import option, release_after, releases_before, subject_of

# The test that runs after one, in the same process.
NEXT = pytest.StashKey[pytest.Item | None]()
# Whether a test has failed, for its fixtures.
FAILED = pytest.StashKey[bool]()
# What is wrong with what was asked for, for a caller in the same process.
REFUSAL = pytest.StashKey[str]()


def cells_of(config: pytest.Config) -> list[Cell]:
    """Return the cells of the matrix that the options name.

    Raises:
        UsageError: an unknown release or VM type.
    """
    subject = subject_of(config)
    subject.check(template=bool(option(config, "template")))
    return cells(types_of(config), releases_before(config), release_after(config), subject)


def types_of(config: pytest.Config) -> list[str]:
    """Return the VM types that the options name, each once.

    Raises:
        UsageError: an unknown one.
    """
    words = option(config, "type").split(",")
    return list(dict.fromkeys(catalogue.vm_type(word.strip()).name for word in words))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let every test that uses the lab run in every cell; a scenario's readable id is that of its test."""
    if "system_vm_cell" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("scenario")
        own = mark.kwargs.get("network") if mark else None
        chosen = [replace(cell, network=own) for cell in cells_of(metafunc.config)]
        name = f"-{mark.args[0]}" if mark else ""
        metafunc.parametrize(
            "system_vm_cell", chosen, scope="session", ids=[f"{cell}{name}" for cell in chosen]
        )
    times = option(metafunc.config, "times")
    if times > 1 and "draw" in metafunc.fixturenames:
        # Whoever draws its moments draws others each time.
        metafunc.fixturenames.append("repetition")
        metafunc.parametrize("repetition", range(1, times + 1))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the scenarios that nobody wants; of the wanted ones, skip those that cannot be."""
    wanted = option(config, "scenario")
    kept, left_out = [], []
    for item in items:
        scenario = scenario_of(item)
        identifier = scenario_id(item)
        if scenario is None or identifier is None or is_chosen(identifier, wanted, scenario):
            kept.append(item)
        else:
            left_out.append(item)
    for item in kept:
        if reason := why_not(item):
            item.add_marker(pytest.mark.skip(reason=reason))
    if left_out and not kept and not hasattr(config, "workerinput"):
        config.stash[REFUSAL] = f"no scenario is called {wanted!r} ('sysvm scenarios' lists them)"
        raise pytest.UsageError(config.stash[REFUSAL])
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def why_not(item: pytest.Item) -> str:
    """Return why a scenario cannot be made in its cell, or nothing."""
    scenario = scenario_of(item)
    if scenario is None:
        return ""
    cell = cell_of(item)
    return scenario.not_for(cell.vm_type) or cell.impossible or _lacks(scenario, item.config, cell)


def _lacks(scenario: Scenario, config: pytest.Config, cell: Cell) -> str:
    """Return which need of a scenario is not met, or an empty string."""
    # Of a run on other hosts each of them says so itself.
    if "root" in scenario.needs and os.geteuid() != 0 and option(config, "on") is None:
        return "it needs root on this host"
    declared = cell.network or option(config, "network") or catalogue.vm_type(cell.vm_type).network
    if "network" in scenario.needs and not declared:
        return f"no network is declared for a {cell.vm_type}"
    return ""


def cell_of(item: pytest.Item) -> Cell:
    """Return the cell that a test runs in."""
    callspec = getattr(item, "callspec", None)
    if callspec is not None and "system_vm_cell" in callspec.params:
        cell: Cell = callspec.params["system_vm_cell"]
        return cell
    return cells_of(item.config)[0]


def scenario_id(item: pytest.Item) -> str | None:
    """Return the readable id of a scenario, or None for another test."""
    scenario = scenario_of(item)
    if scenario is None:
        return None
    callspec = getattr(item, "callspec", None)
    own = [value for name, value in callspec.params.items() if name != "system_vm_cell"] if callspec else []
    return "-".join([str(cell_of(item)), scenario.name, *map(str, own)])


def wants_the_same(item: pytest.Item) -> bool:
    """Say whether the next test needs another copy of the snapshot that this one uses."""
    following = item.stash.get(NEXT, None)
    if following is None or "system_vm" not in getattr(following, "fixturenames", ()) or why_not(following):
        return False
    # One that needs room for several at once waits for it empty-handed.
    return cell_of(following) == cell_of(item) and not companions_of(following)


def hands_on(item: pytest.Item) -> bool:
    """Say whether a scenario that leaves its VM as it was is followed by another one that may have it."""
    following = item.stash.get(NEXT, None)
    if following is None or "system_vm" not in getattr(following, "fixturenames", ()) or why_not(following):
        return False
    own, other = scenario_of(item), scenario_of(following)
    both = own is not None and own.untouched and other is not None and other.untouched
    return both and cell_of(following) == cell_of(item)


def companions_of(item: pytest.Item) -> int:
    """Return how many more copies of its VM a scenario restores."""
    scenario = scenario_of(item)
    return scenario.companions if scenario else 0
