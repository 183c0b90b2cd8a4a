"""Run benchmarks: ``python -m tests.bench NAME...|all``.

A benchmark is a module of this folder with ``main() -> None``; it prints what it measured, and the ratios to
its rivals.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def names() -> list[str]:
    """Return the names of all benchmarks."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))


def main() -> int:
    """Run the benchmarks that the arguments name; returns the exit status."""
    known = names()
    chosen = sys.argv[1:] or ["all"]
    if unknown := [name for name in chosen if name != "all" and name not in known]:
        print(f"unknown benchmark {unknown[0]!r} (there are {', '.join(known)} and all)", file=sys.stderr)
        return 2
    for name in known if "all" in chosen else chosen:
        print(f"== {name}", flush=True)
        importlib.import_module(f"tests.bench.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
