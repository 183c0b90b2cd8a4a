"""The two bundles of a run: the one that the VM boots with, and the one that it is patched with."""

from __future__ import annotations

import base64
import io
import os
import pickle
import shutil
import sys
import zipfile
from pathlib import Path

from bundle import layout, programs
from bundle.errors import UsageError
from harness.image import Image
from harness.lab.subject import UPSTREAM_SCRIPT, ScriptChoice, Subject, origin_of


def build_bundle(
    release: str,
    target: Path,
    *,
    source: Path | None = None,
    script: Path | None = None,
    jars: Path | None = None,
) -> Path:
    """Build a bundle of the reference payload, or of another source tree.

    Args:
        release: as in the catalogue.
        target: the folder that is to appear.
        source: a copy of the reference payload, or a CloudStack checkout.
        script: a patch script in place of ours.
        jars: where the jars of a checkout's agent are.

    Raises:
        UsageError: the tree is none, or cannot be shipped.
    """
    from bundle.build import BuildOptions, build

    options = BuildOptions(output=target, release=release, source=source, script=script, agent_jars=jars)
    return build(options).folder


def of_source(tree: Path, release: str, target: Path, script: ScriptChoice, jars: Path | None) -> Path:
    """Build the bundle of a CloudStack checkout with its own patch script, where it has one, or with ours."""
    upstream = tree / UPSTREAM_SCRIPT
    own = upstream if script == "upstream" and upstream.is_file() else None
    return build_bundle(release, target, source=tree, script=own, jars=jars)


def to_patch_with(subject: Subject, release: str, target: Path) -> Path:
    """Return the bundle that a run patches with: the one that was named, or one that is built now."""
    if subject.bundle is not None:
        return subject.bundle
    if subject.source is not None:
        return of_source(subject.source, release, target, subject.script, subject.agent_jars)
    return build_bundle(release, target)


# What differs between two machines that build from one source, beside where the source lies.
_ELSEWHERE = {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "LANG": "C", "PYTHONHASHSEED": "1"}
_BUILD = """\
import base64, os, pickle, sys
os.umask(0o077)
from harness.lab.bundles import to_patch_with
to_patch_with(*pickle.loads(base64.b64decode(sys.argv[1])))
"""


def built_elsewhere(subject: Subject, release: str, target: Path) -> Path:
    """Return the bundle that a run patches with, built once more as on another machine.

    It is built by a process of its own with another time zone, language, umask and order of hashes, and with no cache.

    Args:
        subject: what the run is about; its bundle is built, not named.
        release: as in the catalogue.
        target: the folder that is to appear.

    Raises:
        InfrastructureError: it cannot be built there.
    """
    words = base64.b64encode(pickle.dumps((subject, release, target.resolve()))).decode()
    environment = os.environ | _ELSEWHERE | {"SYSVM_CACHE": str(target.with_name(f"{target.name}-cache"))}
    what = "build the bundle once more"
    programs.run([sys.executable, "-c", _BUILD, words], what=what, environment=environment, deadline=600)
    return target


def to_boot_with(subject: Subject, release: str, target: Path) -> Path:
    """Return the bundle that a VM boots with, for a template that is not named by itself."""
    if subject.from_bundle is not None:
        return subject.from_bundle
    if subject.from_source is not None:
        return of_source(subject.from_source, release, target, "upstream", subject.agent_jars)
    return build_bundle(release, target)


def has_agent(bundle: Path) -> bool:
    """Say whether the agent of a VM that boots with a bundle can start: CloudStack's own cannot without its jars."""
    with zipfile.ZipFile(bundle / layout.AGENT) as archive:
        jars = any(name.endswith(".jar") for name in archive.namelist())
    return jars or origin_of(bundle) == "reference"


def baked(image: Image, target: Path) -> Path:
    """Return a bundle of the scripts that a template has baked in: a VM that boots with it runs nothing else.

    The VM agent archive is empty and the patch script does nothing: neither is used where the scripts are those of the
    template.

    Raises:
        UsageError: the template has no scripts of its own.
    """
    if not image.scripts.is_file():
        raise UsageError(
            f"template {image.label()} has no cloud-scripts.tgz baked in",
            hint="name what it boots with: --from-bundle DIR or --from-source TREE",
        )
    target.mkdir(parents=True)
    shutil.copyfile(image.scripts, target / layout.SCRIPTS)
    nothing = io.BytesIO()
    zipfile.ZipFile(nothing, "w").close()
    (target / layout.AGENT).write_bytes(nothing.getvalue())
    for name in layout.PAYLOAD:
        if not (target / name).exists():
            (target / name).write_text("#!/bin/sh\nexit 1\n")
    return target
