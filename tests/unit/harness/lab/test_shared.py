"""A VM that is handed on: one at a time, ended when nobody wants it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from harness.lab.shared import Shared


class Vm:
    name = ""

    def rename(self, name: str) -> None:
        self.name = name


def _life(ended: list[str], name: str) -> ExitStack:
    stack = ExitStack()
    stack.callback(ended.append, name)
    return stack


def test_what_was_given_is_taken_once_under_another_name() -> None:
    shared, ended = Shared(), []
    vm: Any = Vm()
    shared.give(vm, _life(ended, "first"))
    taken = shared.take("second")
    assert taken is not None
    assert (taken[0], vm.name, shared.take("third"), ended) == (vm, "second", None, [])


def test_one_that_nobody_takes_is_ended_and_there_is_never_a_second() -> None:
    shared, ended = Shared(), []
    for name in ("first", "second"):
        vm: Any = Vm()
        shared.give(vm, _life(ended, name))
    assert ended == ["first"]
    shared.close()
    shared.close()
    assert ended == ["first", "second"]
