"""This host, as golden snapshots depend on it: what decides whether one that was made elsewhere can be used here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.host.hypervisor import Hypervisor
from harness.image import images
from harness.lab.golden_maker import host_parts
from harness.machine import accel, technique
from harness.vm import golden


@dataclass(frozen=True)
class Here:
    """This host, asked through its hypervisor."""

    host: Hypervisor

    def parts(self, image: images.Image | None) -> Mapping[str, str]:
        """Return its ingredients; without an image those of the accelerator are not known."""
        host = self.host
        version = technique.find(host.version())
        found = accel.of_template(image, host.uid, host.groups).accelerator if image else accel.TCG
        parts = golden.summary(host_parts(host, found, version))
        unknown = () if image else ("accelerator", "processor")
        return {name: value for name, value in parts.items() if name not in unknown}
