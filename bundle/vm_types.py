"""VM types as typed values: the tables ``[type.*]`` of ``systemvm/releases.toml``.

Whoever does something by a VM's type asks ``bundle.catalogue`` for its row: there is no other list of types.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from bundle.errors import UsageError

Family: TypeAlias = Literal["router", "balancer", "agent"]
Call: TypeAlias = Literal["patchSystemVm", "restartNetwork"]
Served: TypeAlias = Literal["network", "vpc", "zone"]
Part: TypeAlias = Literal["agent", "machines", "rules", "console", "storage"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "family": get_args(Family),
    "patched_by": get_args(Call),
    "serves": get_args(Served),
}
_TYPED: dict[str, type] = {"api": str, "alert": int}
_OPTIONAL = {"network", "nics_later", "has", "upstream_restarts"}


@dataclass(frozen=True)
class VmType:
    """A VM type, such as ``router``; the comments in ``releases.toml`` say what the words mean.

    Attributes:
        name: as in ``type=`` of the kernel command line.
        family: what it is treated as, where nothing finer counts.
        patched_by: the management server's call that patches it live.
        serves: whom it serves.
        api: what the management server's API calls it.
        alert: number of the server's alert about it.
        has: what it has of the parts that not every type has.
        network: name of the declared network that is shipped for it; empty for a type that declares none.
        nics_later: all NICs but the control NIC are plugged in after the boot.
        upstream_restarts: CloudStack's own patch script restarts its services.
    """

    name: str
    family: Family
    patched_by: Call
    serves: Served
    api: str
    alert: int
    has: frozenset[Part] = frozenset()
    network: str = ""
    nics_later: bool = False
    upstream_restarts: bool = False


def parse(rows: dict[str, dict[str, Any]]) -> dict[str, VmType]:
    """Return the VM types of the catalogue's table ``type``, in its order.

    Raises:
        UsageError: a row lacks a key, has an unknown one, or a word that means nothing.
    """
    return {name: _parse(name, row) for name, row in rows.items()}


def _parse(name: str, row: dict[str, Any]) -> VmType:
    where = f"VM type {name!r} of the catalogue"
    for key, words in _CHOICES.items():
        if row.get(key) not in words:
            raise UsageError(f"{where}: {key} is {row.get(key)!r} (expected {' or '.join(words)})")
    for key, kind in _TYPED.items():
        if type(row.get(key)) is not kind:
            raise UsageError(f"{where}: {key} is {row.get(key)!r} (expected {kind.__name__})")
    has = frozenset(row.get("has", ()))
    if unknown := has - set(get_args(Part)):
        raise UsageError(f"{where}: it has {min(unknown)!r} (expected {', '.join(get_args(Part))})")
    if strange := row.keys() - _CHOICES.keys() - _TYPED.keys() - _OPTIONAL:
        raise UsageError(f"{where}: unknown key {min(strange)!r}")
    if ("agent" in has) != (row["family"] == "agent"):
        raise UsageError(f"{where}: the family 'agent', and no other, has an agent")
    return VmType(
        name=name, family=row["family"], patched_by=row["patched_by"], serves=row["serves"], api=row["api"],
        alert=row["alert"], has=has,
        network=row.get("network", ""), nics_later=row.get("nics_later", False),
        upstream_restarts=row.get("upstream_restarts", False),
    )  # fmt: skip
