"""Checking: what a person asked for, all of it, before any machine starts; for the command and for pytest alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundle.errors import SysvmError, UsageError
from harness.plugin.cells import parts_of
from harness.plugin.choosing import REFUSAL, cells_of, types_of
from harness.plugin.options import given, option, release_after, releases_before, subject_of, templates_of
from harness.report import known


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse arguments that cannot be meant; a session that says nothing of ours is left alone."""
    config = session.config
    if hasattr(config, "workerinput") or not given(config):
        return
    try:
        check(config)
    except SysvmError as error:
        config.stash[REFUSAL] = error.diagnostics()
        raise pytest.UsageError(error.diagnostics()) from None


def check(config: pytest.Config) -> None:
    """Look at every argument as the run will use it.

    Raises:
        UsageError: an unknown word, a file or folder that is not there or unreadable, or two that contradict.
        CheckFailed: a bundle whose manifest cannot be read.
        InfrastructureError: this machine cannot do what is asked.
    """
    from harness.record import results
    from harness.vm import backends

    if not config.getoption("collectonly"):
        results.require_writable(option(config, "results"))
    parts_of(option(config, "scenario"))
    cells_of(config)
    backends.find(option(config, "network-backend"))
    if option(config, "known-failures") is not None:
        known.read(option(config, "known-failures"))
    if option(config, "on") is not None:
        from harness.plugin.cluster.address import read_meeting

        read_meeting(option(config, "on"), option(config, "certificates"))
    _check_bundles(config)
    _check_templates(config)
    _check_networks(config)


def _check_bundles(config: pytest.Config) -> None:
    from harness.kvmagent.patch import load_bundle

    subject = subject_of(config)
    for folder in filter(None, (subject.bundle, subject.from_bundle)):
        load_bundle(folder)


def _check_templates(config: pytest.Config) -> None:
    from harness.image import images
    from harness.image.spec import check_debian

    named = templates_of(config)
    for release in releases_before(config):
        template = named.pop(release, None)
        if template is None:
            check_debian(release, option(config, "debian"))
        elif not Path(template).is_file() and images.find(template).release != release:
            found = images.find(template).release
            raise UsageError(f"template {template} is of {found}, not of {release}")
    if named:
        release, template = next(iter(named.items()))
        raise UsageError(f"--template {release}={template}: no VM runs {release} before the patch")


def _check_networks(config: pytest.Config) -> None:
    from harness.lab.wish import Wish

    for vm_type in types_of(config):
        first = releases_before(config)[0]
        Wish(vm_type, first, release_after(config), network=option(config, "network")).declared()
