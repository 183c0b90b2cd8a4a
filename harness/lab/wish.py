"""A wish: what a person wants to see patched, and the template and network that it means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundle import catalogue
from bundle.errors import UsageError
from harness import image, network
from harness.image import images, importing
from harness.lab.subject import REFERENCE, Subject
from harness.network import Network
from harness.network.far_ends import needs_daemons
from harness.record import progress
from harness.vm.types import of_type


@dataclass(frozen=True)
class Wish:
    """A person's wish: type, releases, template and network of the VM to be patched.

    Attributes:
        vm_type: as in the cmdline.
        from_release: what the system VM runs before the patch.
        to_release: what it is patched to.
        debian: another Debian than the catalogue's for the template.
        network: name or file of the declared network; None takes the one that is shipped for the type, if any.
        subject: what the VM runs before and is patched with, where that is not the reference payload.
        template: image of the cache, or file of a template, to boot instead of the reference template.
        network_backend: as in ``backends.find``.
    """

    vm_type: str
    from_release: str
    to_release: str
    debian: int | None = None
    network: str | None = None
    subject: Subject = REFERENCE
    template: str | None = None
    network_backend: str | None = None

    def built_image(self, bundle: Path) -> image.Image:
        """Return the template that is built with a bundle's scripts: the reference one, or that of a checkout."""
        declared = self.declared()
        spec = image.ImageSpec(
            release=self.from_release, bundle=bundle, debian=self.debian, source=self.subject.from_source,
            kind="network" if declared is not None and needs_daemons(declared) else "slim",
        )  # fmt: skip
        return image.build(spec, progress.shown())

    def named_image(self, template: str) -> image.Image:
        """Return a template that a person names: an image of the cache, or a file that is imported now.

        Raises:
            UsageError: no such image, or one of another release.
        """
        if Path(template).is_file():
            return importing.take(Path(template), self.from_release, progress=progress.shown())
        found = images.find(template)
        if found.release != self.from_release:
            raise UsageError(f"template {template} is of {found.release}, not of {self.from_release}")
        return images.load(found.folder)  # finding it was no use of it yet

    def declared(self) -> Network | None:
        """Return the declared network, or None for a type that has none.

        Raises:
            UsageError: there is no such network, or it is one of another VM type.
        """
        of_type(self.vm_type)
        name = self.network or catalogue.vm_type(self.vm_type).network
        declared = network.load(name) if name else None
        if declared is not None and declared.type != self.vm_type:
            raise UsageError(f"network {name!r} is declared for a {declared.type}, not for a {self.vm_type}")
        if declared is not None and declared.redundant is not None:
            raise UsageError(f"network {name!r} declares a redundant pair, which only scenarios start")
        return declared
