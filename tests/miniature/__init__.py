"""A miniature CloudStack checkout of our own making: layout, dialects and known faults, no line of upstream's.

It takes the road of a genuine tree where none is at hand: its appliance definition makes a template, its scripts boot
it, and its patch script patches it. The scripts are those of the reference payload of a release; the patch script is
the rival of ``tests/legacy``, which has the faults that CloudStack's own is known for.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from bundle import catalogue
from bundle.source.find import find_payload

LEGACY = Path(__file__).resolve().parents[1] / "legacy" / "patch-sysvms.sh"
_APPLIANCE = "tools/appliance/systemvmtemplate/scripts"
_KEYSTORE = "opt/cloud/bin/keystore-"


def make(tree: Path, release: str, *, note: str = "") -> Path:
    """Write a checkout.

    Args:
        tree: folder that is to appear.
        release: row of the catalogue, such as ``4.22``.
        note: line of a file of its scripts: two trees of one release that differ in nothing else.

    Returns:
        The folder.
    """
    row = catalogue.load().release(release)
    payload = find_payload(None, release, catalogue.load())
    for path, item in payload.scripts.items():
        place = (
            f"scripts/util/{path.rpartition('/')[2]}"
            if path.startswith(_KEYSTORE)
            else f"systemvm/debian/{path}"
        )
        _copy(item.source, tree / place)
    for path, item in payload.agent.items():
        if not path.startswith("scripts/util/keystore-"):  # a checkout packs these from scripts/util
            _copy(item.source, tree / "systemvm/agent/scripts" / path)
    if note:
        _write(tree / "systemvm/debian/opt/cloud/bin/miniature-note", f"{note}\n")
    shutil.copy(LEGACY, tree / "systemvm/patch-sysvms.sh")
    _write(tree / "pom.xml", f"<project><version>{release}.0.0</version></project>\n")
    _appliance(tree / _APPLIANCE, row.template)
    return tree


def _copy(source: Path | None, place: Path) -> None:
    if source is None:
        place.mkdir(parents=True, exist_ok=True)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, place)


def _write(place: Path, text: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def _appliance(folder: Path, version: str) -> None:
    """Write the two scripts from which a template's packages and units are read, in the dialect of such scripts."""
    facts = catalogue.load()
    names = " \\\n    ".join(facts.packages.slim)
    _write(
        folder / "install_systemvm_packages.sh",
        '#!/bin/bash\napt_get="apt-get --no-install-recommends -q -y"\ninstall() {\n'
        f"  ${{apt_get}} install {names}\n"
        "  ${apt_get} install no-such-package-here libc6:i386\n"
        "  wget https://example.invalid/tools/some-tool_1.0_amd64.deb\n}\ninstall\n",
    )
    switched = [f"  systemctl {verb} {unit.removesuffix('.service')}" for verb, units in (
        ("disable", facts.units.disabled), ("mask", facts.units.masked), ("enable", facts.units.enabled),
    ) for unit in units]  # fmt: skip
    lines = "\n".join(switched)
    _write(
        folder / "configure_systemvm_services.sh",
        f"#!/bin/bash\nCLOUDSTACK_RELEASE={version}\nconfigure() {{\n{lines}\n}}\nconfigure\n",
    )
