"""The parts of the system that rules change, in the order in which they are applied.

A part is a module with ``KINDS`` (the message types that concern it; the command line concerns all), ``check(state)``,
which refuses what the program behind it would refuse and changes nothing, ``apply(state)``, which brings the system
to the state, does nothing when it is there already, and can be called with the former state to go back, and
``prove(state)``, which fails when the effect is not there within a bound: status 0 says that rules are in force, not
that files were written.
"""

from __future__ import annotations

from types import ModuleType
from typing import Tuple

from . import (
    addresses,
    bgp,
    dhcp,
    haproxy,
    ipsec,
    monitor,
    packetfilter,
    passwords,
    radvd,
    redundancy,
    routes,
    web,
)

PARTS: Tuple[ModuleType, ...] = (
    addresses,
    routes,
    packetfilter,
    haproxy,
    redundancy,
    dhcp,
    radvd,
    web,
    passwords,
    ipsec,
    monitor,
    bgp,
)
