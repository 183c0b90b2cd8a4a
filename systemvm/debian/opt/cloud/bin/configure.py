#!/usr/bin/python3 -ES
"""Apply the databags in /etc/cloudstack again as they are: ``configure.py [DATABAG]``.

The name of a databag is accepted for the sake of callers that give one; applying is idempotent, so everything is
looked at.
"""

import sys

sys.dont_write_bytecode = True

from cloudrules import engine  # noqa: E402 (byte code is switched off first)
from cloudrules.errors import Failed, Refused  # noqa: E402


def main() -> None:
    """Apply everything."""
    if len(sys.argv) > 2:
        sys.exit("usage: configure.py [DATABAG]")
    try:
        engine.reapply()
    except (Refused, Failed) as error:
        sys.exit(f"configure.py: {error}")


if __name__ == "__main__":
    main()
