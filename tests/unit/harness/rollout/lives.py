"""The command in processes that begin at once, to be killed: forked from one that has imported all of it."""

import multiprocessing
import os
import sys

import cs  # noqa: F401 - imported once for every life

import harness.cli.rollout
import harness.rollout.start  # noqa: F401
from harness.cli import main

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__])


def live(words, environment, folder):
    """Begin a process that is ``sysvm rollout`` with these words."""
    process = _FORKS.Process(target=_live, args=(words, environment, str(folder)), daemon=True)
    process.start()
    return process


def _live(words, environment, folder):
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    sys.argv = ["sysvm", "rollout", *words]
    main()
