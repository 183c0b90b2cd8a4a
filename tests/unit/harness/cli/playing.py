"""Plays ``sysvm run`` with scenarios that need no VM, in a process of its own: ``playing.py FOLDER ARGUMENTS``."""

import sys
from pathlib import Path

from harness.cli import _judge, main

if __name__ == "__main__":
    folder, real = Path(sys.argv[1]), _judge.judge
    _judge.judge = lambda arguments, as_json, junit=None, retries=0: real(
        arguments, as_json, junit, folder, retries
    )
    sys.argv = ["sysvm", *sys.argv[2:]]
    main()
