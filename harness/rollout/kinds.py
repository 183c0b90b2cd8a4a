"""Kinds of VMs as the API's lists tell them apart, and the catalogue's VM types that they stand for.

A kind is ``router``, ``ilb`` (an internal load balancer), ``elb`` (an elastic one), or of a system VM the API's word.
"""

from __future__ import annotations

from bundle import catalogue
from bundle.vm_types import Part, Served, VmType


def _balancers() -> tuple[VmType | None, VmType | None]:
    """Return the types of internal and of elastic load balancers: only internal ones have a role of their own."""
    types = catalogue.load().types.values()
    routers = {row.api for row in types if row.family == "router"}
    found = [row for row in types if row.family == "balancer"]
    internal = next((row for row in found if row.api not in routers), None)
    return internal, next((row for row in found if row.api in routers), None)


def internal_role() -> str:
    """Return the role of an internal load balancer, as the API writes it."""
    internal, _ = _balancers()
    return internal.api if internal else ""


def _type_of(kind: str) -> VmType | None:
    if kind in {"ilb", "elb"}:
        return _balancers()[kind == "elb"]
    agents = (row for row in catalogue.load().types.values() if row.family == "agent")
    return next((row for row in agents if row.api == kind), None)


def parts_of(kind: str) -> frozenset[Part]:
    """Return what a system VM of a kind has of the parts that not every type has; nothing for other kinds."""
    found = _type_of(kind)
    return found.has if found else frozenset()


def type_name(kind: str) -> str:
    """Return the name of a kind's VM type; the kind itself where the catalogue has none."""
    found = _type_of(kind)
    return found.name if found else kind


def router_name(serves: Served, *, rules: bool) -> str:
    """Return the name of a router's VM type.

    Args:
        serves: what it is the router of.
        rules: whether it has rules for traffic, as the router of an isolated network or of a VPC has.
    """
    types = catalogue.load().types.values()
    found = (row for row in types if row.family == "router" and row.serves == serves)
    return next(row.name for row in found if ("rules" in row.has) == rules)
