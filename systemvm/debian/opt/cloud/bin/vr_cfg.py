#!/usr/bin/python3 -ES
"""Apply an aggregate file: ``vr_cfg.py FILE``. Ends with 0 when all of it is in force, else with 1 and the reason."""

import sys
from pathlib import Path

sys.dont_write_bytecode = True

from cloudrules import aggregate, system  # noqa: E402 (byte code is switched off first)
from cloudrules.errors import Failed, Refused  # noqa: E402


def main() -> None:
    """Read the argument and apply."""
    if len(sys.argv) != 2:
        sys.exit("usage: vr_cfg.py FILE")
    try:
        aggregate.process(Path(sys.argv[1]))
    except (Refused, Failed) as error:
        system.log(f"{sys.argv[1]} is not in force as a whole: {error}")
        sys.exit(f"vr_cfg.sh: {sys.argv[1]}: {error}")


if __name__ == "__main__":
    main()
