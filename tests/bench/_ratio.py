"""The line that a comparison with the rival prints."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def tell(what: str, ours: Sequence[float], rival: Sequence[float]) -> None:
    """Print the medians of two series of runs, and how they compare."""
    mine, other = statistics.median(ours), statistics.median(rival)
    ratio = f"{mine / other:.2f}" if other else "-"
    print(f"{what:42} ours {mine:14,.2f}   rival {other:14,.2f}   ratio {ratio}", flush=True)
