"""The template's metadata: every entry is true of the artefact, and of the VM that was made from it."""

from __future__ import annotations

import json

import pytest

from bundle.archive.digest import file_digest
from harness.scenario import Lab, Trial


@pytest.mark.scenario("S40-template-metadata")
def test_every_entry_of_the_metadata_is_true(lab: Lab, live_patch: Trial) -> None:
    """Digest, size, kernel, packages and release that a template says of itself are those that it has."""
    image, guest = lab.image, live_patch.vm.guest
    digest = file_digest(image.path, "sha256")
    live_patch.require("template.digest", "" if digest == image.digest else f"the disk is {digest[:12]}…")
    told = guest.run(
        "uname -r; cat /etc/cloudstack-release; blockdev --getsize64 /dev/vda; "
        "dpkg-query -W -f '${db:Status-Abbrev}\\n' | grep -c '^ii'"
    ).stdout.splitlines()
    kernel, release, size, packages = told
    seen = {
        "kernel": (kernel, image.kernel_version),
        "release": (release.split()[2] if len(release.split()) > 2 else release, image.template),
        "size": (size, str(image.size)),
        "packages": (packages, str(image.packages)),
    }
    for name, (found, stated) in seen.items():
        live_patch.require(
            f"template.{name}", "" if found == stated else f"says {stated}, the VM has {found}"
        )
    bill = [row for row in json.loads(image.sbom.read_text())["components"] if row["type"] == "library"]
    count = len({row["bom-ref"] for row in bill})
    live_patch.require(
        "template.bill", "" if count == image.packages else f"{count} of {image.packages} packages"
    )
