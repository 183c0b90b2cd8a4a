"""The mark of a scenario, parsed once: what ``--scenario``, the fixtures, the reports and the lists read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import pytest

from bundle.errors import UsageError

# What a scenario may need beside its VM.
NEEDS = ("network", "root")
_PARSED = pytest.StashKey["Scenario | None"]()


@dataclass(frozen=True)
class Scenario:
    """A scenario as its author declares it: ``@pytest.mark.scenario("S08-live-config-kept", tags=("files",))``.

    Attributes:
        name: part of its id, such as ``S08-live-config-kept``.
        title: the first line of its docstring.
        default: whether it runs when nobody chooses.
        types: the VM types that it is about; None for every type.
        why: why no other types, for people.
        companions: how many copies of its VM it restores, reserved, beside ``system_vm``.
        tags: further words by which ``--scenario`` finds it.
        needs: words of ``NEEDS``: a declared network, or root on the host.
        untouched: it leaves its VM as it was; those of one cell use one VM, proven to be so between them.
        network: the declared network that it is about, in the place of the run's; ``types`` names that one's type.
    """

    name: str
    title: str = ""
    default: bool = False
    types: tuple[str, ...] | None = None
    why: str = ""
    companions: int = 0
    tags: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    untouched: bool = False
    network: str | None = None

    @property
    def row(self) -> str:
        """The row of the table of what goes wrong in the field, such as ``S08``; empty for one without."""
        word = self.name.partition("-")[0]
        return word if re.fullmatch(r"S\d\d", word) else ""

    def not_for(self, vm_type: str) -> str:
        """Return why it is not made for a VM type, or an empty string."""
        if self.types is None or vm_type in self.types:
            return ""
        return self.why or f"it is about {', '.join(self.types)}"


def parse(args: tuple[Any, ...], options: Mapping[str, Any], where: str, title: str = "") -> Scenario:
    """Return the scenario that a mark declares.

    Args:
        args: the mark's positional arguments: the name.
        options: the mark's keywords.
        where: the test's id, for errors.
        title: the first line of the test's docstring.

    Raises:
        UsageError: no name, an unknown keyword or need, or a value of the wrong kind.
    """
    known = {field.name for field in fields(Scenario)} - {"name", "title"}
    if len(args) != 1 or not isinstance(args[0], str) or not args[0]:
        raise UsageError(f"{where}: the mark scenario takes one name, not {args!r}")
    unknown = sorted(set(options) - known)
    if unknown:
        raise UsageError(
            f"{where}: the mark scenario has no {unknown[0]!r}", hint=f"it has {', '.join(sorted(known))}"
        )
    for name in ("types", "tags", "needs"):
        if options.get(name) is not None and not isinstance(options[name], tuple):
            raise UsageError(
                f"{where}: {name} of the mark scenario is a tuple of words, not {options[name]!r}"
            )
    scenario = Scenario(args[0], title, **options)
    if scenario.network is not None and len(scenario.types or ()) != 1:
        raise UsageError(f"{where}: the mark scenario with a network has one type, that of the network")
    for need in scenario.needs:
        if need not in NEEDS:
            raise UsageError(
                f"{where}: the mark scenario needs {need!r}, which is none of {', '.join(NEEDS)}"
            )
    return scenario


def scenario_of(item: pytest.Item) -> Scenario | None:
    """Return what a test's mark declares, or None for a test that is no scenario.

    Raises:
        UsageError: the mark cannot be read; see :func:`parse`.
    """
    if _PARSED not in item.stash:
        mark = item.get_closest_marker("scenario")
        doc = (getattr(getattr(item, "function", None), "__doc__", None) or "").strip()
        title = doc.splitlines()[0] if doc else ""
        item.stash[_PARSED] = parse(mark.args, mark.kwargs, item.nodeid, title) if mark else None
    return item.stash[_PARSED]
