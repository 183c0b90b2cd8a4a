"""Agents of the sizes that patches are measured with: a few scripts, and jars that do not compress."""

from __future__ import annotations

import random

# Bytes.
SIZES = {"0.7 MB": 700_000, "150 MB": 150_000_000}
_JARS = 40


def jars(size: int, mark: int) -> dict[str, bytes]:
    """Return 40 jars of ``size`` bytes together, by file name; another ``mark`` gives other names and contents."""
    noise = random.Random(mark)
    return {f"lib-{number}-{mark}.jar": noise.randbytes(size // _JARS) for number in range(_JARS)}
