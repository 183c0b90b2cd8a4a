"""Options that the commands on runs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bundle.cli._options import PATH
from harness.vm.backends import BACKENDS

_F = TypeVar("_F", bound=Callable[..., Any])


def results_option(function: _F) -> _F:
    """Add ``--results``, as argument ``root``."""
    return click.option(
        "--results", "root", type=PATH, default=Path("results"), show_default=True, help="Folder of all runs."
    )(function)


def network_backend_option(function: _F) -> _F:
    """Add ``--network-backend``, which :func:`harness.vm.backends.find` understands."""
    return click.option(
        "--network-backend",
        metavar="|".join(BACKENDS),
        help="Segments between VMs: on loopback (default), or as taps on bridges in network namespaces (root only).",
    )(function)


def certificates_option(function: _F) -> _F:
    """Add ``--certificates``, the folder that :func:`harness.plugin.cluster.address.read_meeting` takes."""
    return click.option(
        "--certificates",
        type=PATH,
        metavar="DIR",
        help="Speak TLS with the certificates of 'sysvm worker --init DIR' ($SYSVM_CERTIFICATES without it).",
    )(function)
