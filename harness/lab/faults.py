"""Faults of a bundle: releases that break a service of the VM that they patch."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from bundle import catalogue
from bundle.errors import UsageError
from bundle.paths import payload_root
from harness.lab.bundles import build_bundle

# What a broken release looks like, by the service that cannot come back after it: file of the payload, and its content.
_BREAKAGES = {
    "haproxy": (
        Path("debian/etc/haproxy/conf.d/00-cloud.cfg"),
        "global\n    this-is-no-keyword of haproxy\n",
    ),
    "dnsmasq": (Path("debian/etc/dnsmasq.d/zz-broken.conf"), "this-is-no-option-of-dnsmasq\n"),
    "cloud": (Path("agent/_run.sh"), "#!/bin/bash\nexit 1\n"),
}


def breakable(vm_type: str) -> str:
    """Return the service that a broken bundle keeps down: the first of the type's that can be broken.

    Raises:
        UsageError: the catalogue does not have the type, or nothing of it can be broken.
    """
    enabled = catalogue.load().services_of(vm_type)[0].enabled
    for word in enabled:
        if word in _BREAKAGES:
            return word
    raise UsageError(f"no service of a {vm_type} can be broken on purpose ({', '.join(enabled)})")


def build_broken(release: str, service: str, target: Path) -> Path:
    """Build a bundle of a release in which a service cannot start.

    Args:
        release: as in the catalogue.
        service: as :func:`breakable` names it.
        target: the bundle's folder; one that is there already is returned as it is.
    """
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as copy:
            source = Path(copy) / "systemvm"
            shutil.copytree(payload_root(), source, symlinks=True)
            file, content = _BREAKAGES[service]
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            (source / file).write_text(content)
            build_bundle(release, target, source=source)
    return target
