#!/usr/bin/python3 -ES
"""Apply one databag that lies in /var/cache/cloud: ``update_config.py FILE [false]``.

With ``false`` no copy of the file is kept. Ends with 0 when the databag is in force, else with 1 and the reason. A
databag of an unknown type is logged and put away: a newer server may send one, and there is nothing to do about it.
"""

import sys

sys.dont_write_bytecode = True

from cloudrules import pending, system  # noqa: E402 (byte code is switched off first)
from cloudrules.errors import Failed, Refused, Unknown  # noqa: E402


def main() -> None:
    """Read the arguments and apply."""
    arguments = sys.argv[1:]
    if len(arguments) not in (1, 2) or arguments[1:] not in ([], ["false"], ["true"]):
        sys.exit("usage: update_config.py FILE [false]")
    try:
        if not pending.process(arguments[0], keep=arguments[1:] != ["false"]):
            system.log(f"{arguments[0]} was applied before")
    except Unknown as error:
        system.log(f"{arguments[0]} was ignored: {error}")
    except (Refused, Failed) as error:
        system.log(f"{arguments[0]} was not applied: {error}")
        sys.exit(f"update_config.py: {error}")


if __name__ == "__main__":
    main()
