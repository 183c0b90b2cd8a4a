"""Faults: what goes wrong with live patches in the field, each by a name.

``contents`` breaks something of a bundle before it is sent. Every other module does something to a VM from outside,
so that any patch script can be tried with it: :func:`begin` starts such a fault by its name, and the fixture
``fault`` does so for the VM of a scenario.
"""

from __future__ import annotations

from harness.lab.faults.contents import FAULTS, Fault, breakable, build_broken, fault
from harness.lab.faults.outside import BeginFault, Outside, begin, outsides

__all__ = [
    "FAULTS",
    "BeginFault",
    "Fault",
    "Outside",
    "begin",
    "breakable",
    "build_broken",
    "fault",
    "outsides",
]
