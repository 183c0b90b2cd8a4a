"""Compares JSON objects with the model of the messages: every key, every type, nothing more and nothing less."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from harness.network import messages
from harness.network.wire import WireObject


def faults(document: dict[str, Any]) -> list[str]:
    """Return what differs between a message as it travels and the model; each with the place in the document."""
    document = dict(document)
    kind = messages.kinds().get(document.pop("type", ""))
    if kind is None:
        return ["type: unknown"]
    flag = document.pop("delete_from_processed_cache", None)
    found = [] if isinstance(flag, bool) else ["delete_from_processed_cache: no boolean"]
    return found + list(_of_record(document, kind, kind.TYPE))


def _of_record(value: Any, model: type[WireObject], where: str) -> typing.Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: no object"
        return
    hints = typing.get_type_hints(model)
    known = {key.name: key for key in dataclasses.fields(model)}
    for name in value.keys() - known.keys():
        yield f"{where}.{name}: unknown"
    for name, key in known.items():
        if name in value:
            yield from _of_value(value[name], _without_none(hints[name]), f"{where}.{name}")
        elif key.default is dataclasses.MISSING:
            yield f"{where}.{name}: missing"


def _without_none(hint: Any) -> Any:
    """Return the type of a key that is there: None is a key that is not."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (hint,) = [part for part in typing.get_args(hint) if part is not type(None)]
    return hint


def _of_value(value: Any, hint: Any, where: str) -> typing.Iterator[str]:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if all(list(_of_value(value, part, where)) for part in parts):
            yield f"{where}: {value!r} is none of {hint}"
    elif origin is tuple:
        if not isinstance(value, list):
            yield f"{where}: no list"
        elif parts[-1] is Ellipsis:
            for number, item in enumerate(value):
                yield from _of_value(item, parts[0], f"{where}[{number}]")
        elif len(value) != len(parts):
            yield f"{where}: {len(value)} items instead of {len(parts)}"
        else:
            for number, (item, part) in enumerate(zip(value, parts, strict=True)):
                yield from _of_value(item, part, f"{where}[{number}]")
    elif origin is Mapping:
        for key, item in value.items():
            yield from _of_value(item, parts[1], f"{where}.{key}")
    elif isinstance(hint, type) and issubclass(hint, WireObject):
        yield from _of_record(value, hint, where)
    elif type(value) is not hint:  # a boolean is no number here
        yield f"{where}: {value!r} is no {hint}"
