"""Shapes of messages: what JSON carries, what the guest needs of it, and since which release a server sends it.

``read`` is the guest's reader: it takes what it understands, ignores what it does not know, and normalises. ``strange``
is the other side: it says where a message departs from what a server of a release sends, key by key and type by type.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from . import fields
from .errors import Refused
from .fields import Check

FIRST = "4.14.0"


class Shape(NamedTuple):
    """One value.

    ``wire`` is the JSON type that a server writes: string, number, boolean, list or object. A list has ``member``, an
    object ``keys``; everything else, and a list or an object of its own kind, has ``check``. With ``null`` a server may
    write null.
    """

    wire: str
    check: Optional[Check] = None
    member: Optional[Any] = None
    keys: Tuple[Any, ...] = ()
    null: bool = False


class Key(NamedTuple):
    """One member of an object.

    ``presence``: ``needed`` is sent always and the guest refuses the message without it; ``sent`` is sent always, and
    the guest does without; ``maybe`` is left out when the server has no value. ``since`` are the first releases that
    send it, one for each line of releases: ``("4.19.2", "4.20.1")`` leaves out 4.20.0.
    """

    name: str
    shape: Shape
    presence: str = "sent"
    since: Tuple[str, ...] = (FIRST,)


def string(check: Check = fields.text, null: bool = False) -> Shape:
    """Return the shape of a text."""
    return Shape("string", check, null=null)


def number(low: int, high: int) -> Shape:
    """Return the shape of a whole number."""
    return Shape("number", fields.integer(low, high))


BOOLEAN = Shape("boolean", fields.boolean)


def listing(member: Shape) -> Shape:
    """Return the shape of a list whose members are alike."""
    return Shape("list", member=member)


def mapping(*keys: Key) -> Shape:
    """Return the shape of an object."""
    return Shape("object", keys=keys)


def read(shape: Shape, value: Any) -> Any:
    """Return a value in its normal form; unknown members are dropped, null counts as absent.

    Raises:
        Refused: something is missing or wrong; the text begins with the path to it.
    """
    if shape.wire == "list" and shape.member is not None:
        if not isinstance(value, list):
            raise Refused(f"not a list: {value!r}")
        return [_read_member(shape.member, place, member) for place, member in enumerate(value)]
    if shape.wire == "object" and shape.check is None:
        return _read_object(shape, value)
    check: Check = shape.check or fields.text
    return check(value)


def _read_member(shape: Any, place: int, value: Any) -> Any:
    try:
        return read(shape, value)
    except Refused as error:
        raise Refused(f"[{place}] {error}") from None


def _read_object(shape: Shape, value: Any) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(f"not an object: {value!r}")
    found = {}
    for key in shape.keys:
        if value.get(key.name) is None:
            if key.presence == "needed":
                raise Refused(f"the field {key.name!r} is missing")
            continue
        try:
            found[key.name] = read(key.shape, value[key.name])
        except Refused as error:
            raise Refused(f"{key.name}: {error}") from None
    return found


def version(release: str) -> Tuple[int, ...]:
    """Return the first three numbers of a release as numbers; ``4.22`` is 4.22.0."""
    numbers = [int(word) for word in release.split(".")[:3]]
    return tuple(numbers + [0] * (3 - len(numbers)))


def sends(key: Key, release: str) -> bool:
    """Return whether a server of a release knows a key."""
    wanted = version(release)
    starts = [version(start) for start in key.since]
    same_line = [start for start in starts if start[:2] == wanted[:2]]
    return wanted >= (same_line[0] if same_line else starts[-1])


_TYPES = {"string": str, "number": (int, float), "list": list, "object": dict, "boolean": bool}


def strange(shape: Shape, value: Any, release: str, path: str = "") -> Iterator[str]:
    """Yield where a value is not what a server of a release sends, one line each, with the path in front."""
    if value is None and shape.null:
        return
    right = isinstance(value, _TYPES[shape.wire])
    if not right or (shape.wire == "number" and isinstance(value, bool)):
        yield f"{path}: {value!r} is no {shape.wire}"
        return
    if shape.wire == "list" and shape.member is not None:
        for place, member in enumerate(value):
            yield from strange(shape.member, member, release, f"{path}[{place}]")
    elif shape.wire == "object" and shape.check is None:
        yield from _strange_object(shape, value, release, path)
    else:
        yield from _unreadable(shape, value, path)


def _unreadable(shape: Shape, value: Any, path: str) -> List[str]:
    try:
        read(shape, value)
    except Refused as error:
        return [f"{path}: {error}"]
    return []


def _strange_object(shape: Shape, value: Dict[str, Any], release: str, path: str) -> Iterator[str]:
    known = {key.name: key for key in shape.keys}
    for name in sorted(set(value) - set(known)):
        yield f"{path}.{name}: no server sends this key"
    for name, key in known.items():
        if name not in value:
            if key.presence != "maybe" and sends(key, release):
                yield f"{path}.{name}: missing, although {release} always sends it"
        elif not sends(key, release):
            yield f"{path}.{name}: {release} does not send this key yet"
        else:
            yield from strange(key.shape, value[name], release, f"{path}.{name}")
