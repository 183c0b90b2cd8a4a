"""Limits of a trial: how probes ask, and how long users may wait."""

from __future__ import annotations

from collections.abc import Mapping

from harness.traffic import plan

# How probes ask. Under emulation a request keeps router and tenant busy for some 50 ms: probes must not slow down what
# they watch, and an answer that is slow for that reason alone is not lost.
PACES = {"kvm": plan.Pace(50.0, 1.0), "qemu": plan.Pace(4.0, 5.0)}
# The longest time without an answer that users may see at all, in milliseconds. Under emulation, and with other guests
# beside it, a guest is many times slower.
BUDGETS_MS = {"kvm": 500.0, "qemu": 8000.0}
# A VM agent is not reloaded but restarted, and its attempts to connect lie up to a second apart.
AGENT_BUDGETS_MS = {"kvm": 10_000.0, "qemu": 30_000.0}
# What a patch may cost on a host that answers at once; and so many milliseconds more for each that the same probe had
# to wait at worst just before the patch.
FLOORS_MS = {"kvm": 500.0, "qemu": 4000.0}
# Rules that are sent again change nothing: no service is renewed for them.
RULES_FLOORS_MS = {"kvm": 500.0, "qemu": 2000.0}
AGENT_FLOORS_MS = {"kvm": 10_000.0, "qemu": 8000.0}
SLOWNESS = 8.0
# What users wait for a service that a fault stops, and that nobody could know of before: until it is rolled back.
ROLLBACK_BUDGETS_MS = {"kvm": 15_000.0, "qemu": 60_000.0}
# Seconds until each probe is expected to have its first answer: a patch is watched from its beginning, however short.
# More than the budget of a router's probe, and longer by as much on a busy host: one that nobody answers has its gap.
FIRST_ANSWERS = 10.0
AGENT_PROBE = "agent's connection to the management server"
# Browsers come to this port. Each console is a chain of four connections: a few a second are enough.
CONSOLE_PORT, CONSOLE_RATE, CONSOLE_TIMEOUT = 8080, 2.0, 5.0


def budget(floor: float, most: float, calm: float | None) -> float:
    """Return the longest gap that a probe may have, in milliseconds.

    Args:
        floor: on a host that answers at once.
        most: on any host.
        calm: the longest gap of the same probe just before; None where it was not answered often enough to say.
    """
    return most if calm is None else min(most, floor + SLOWNESS * calm)


def stretched(limits: Mapping[str, float], stretch: float) -> dict[str, float]:
    """Return budgets as they are on a busy host: a VM that waits for a core is dark for longer, whoever patches it."""
    return {name: most * stretch for name, most in limits.items()}
