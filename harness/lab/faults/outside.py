"""The list of faults that come from outside of a bundle, and how one of them is begun.

A fault is a function that yields while it lasts: what it yields tells what it did, its end undoes what can be undone.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from bundle.errors import UsageError
from harness.vm.system import SystemVm

# The modules that define faults, in the order in which people read them.
_MODULES = (
    "power", "processes", "programs", "disk", "memory", "clock", "network", "uploads", "writers",
    "operators",
)  # fmt: skip

BeginFault: TypeAlias = Callable[..., AbstractContextManager[Any]]


@dataclass(frozen=True)
class Outside:
    """A named fault.

    Attributes:
        name: ``subject.what``, such as ``disk.full``.
        what: one line for people.
        begin: starts it on a system VM; the result is a context manager that ends it.
    """

    name: str
    what: str
    begin: BeginFault


_REGISTERED: dict[str, Outside] = {}


def outside(name: str, what: str) -> Callable[[Callable[..., Iterator[Any]]], BeginFault]:
    """Register a generator function, whose first argument is the VM, as a fault."""

    def register(function: Callable[..., Iterator[Any]]) -> BeginFault:
        made = contextmanager(function)
        if name in _REGISTERED:
            raise ValueError(f"two faults are named {name!r}")
        _REGISTERED[name] = Outside(name, what, made)
        return made

    return register


@cache
def outsides() -> tuple[Outside, ...]:
    """Return every fault that comes from outside."""
    for module in _MODULES:
        importlib.import_module(f"harness.lab.faults.{module}")
    # Whoever imported one of them first does not decide the order.
    return tuple(
        sorted(_REGISTERED.values(), key=lambda row: _MODULES.index(row.begin.__module__.rpartition(".")[2]))
    )


def begin(name: str, vm: SystemVm, **options: object) -> AbstractContextManager[Any]:
    """Return a fault as a context manager.

    Args:
        name: of the fault.
        vm: whom it meets.
        options: of the fault; its function names them.

    Raises:
        UsageError: there is no such fault.
    """
    for row in outsides():
        if row.name == name:
            return row.begin(vm, **options)
    raise UsageError(f"unknown fault {name!r}", hint=f"there are {', '.join(row.name for row in outsides())}")
