"""``systemvm.iso`` of releases before 4.17: the two archives on a CD, for templates that look nowhere else."""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Iterator
from pathlib import Path

from bundle import catalogue, layout
from bundle.archive import output
from bundle.errors import UsageError
from bundle.inspect.verify import verify
from bundle.seal.manifest import Manifest

# The names that mkisofs -r gives: ISO 9660's own, and Rock Ridge's, which is what the guest sees.
_FILES = ((layout.AGENT, "/AGENT.ZIP;1"), (layout.SCRIPTS, "/CLOUD_SC.TGZ;1"))
_VOLUME = "CDROM"
_MODE = 0o100444
_CLOCKED = ("pycdlib.pycdlib", "pycdlib.headervd", "pycdlib.dates", "pycdlib.utils")


class _Clock:
    """Stands in for the module ``time``: always the same moment, always UTC."""

    struct_time = time.struct_time
    strptime = staticmethod(time.strptime)
    strftime = staticmethod(time.strftime)
    gmtime = localtime = staticmethod(time.gmtime)

    def __init__(self, epoch: int) -> None:
        self._epoch = float(epoch)

    def time(self) -> float:
        return self._epoch


@contextlib.contextmanager
def _clock_stands_at(epoch: int) -> Iterator[None]:
    """Let pycdlib see one fixed moment: it asks the clock for every time stamp, and offers no other way."""
    modules = [importlib.import_module(name) for name in _CLOCKED]
    for module in modules:
        vars(module)["time"] = _Clock(epoch)
    try:
        yield
    finally:
        for module in modules:
            vars(module)["time"] = time


def make_iso(folder: Path, place: Path, proven: Manifest | None = None) -> None:
    """Write the ISO image of a bundle; the same bundle gives the same bytes.

    Args:
        folder: the bundle, which is verified first.
        place: the image that is to appear.
        proven: the manifest, when the bundle was verified already.

    Raises:
        CheckFailed: the bundle does not verify.
        UsageError: system VMs of the bundle's release have no CD drive any more.
        InfrastructureError: the place cannot be written.
    """
    import pycdlib

    facts = (proven or verify(folder).manifest).facts
    if catalogue.load().release(facts.release).transport != "iso":
        raise UsageError(f"{folder}: system VMs of {facts.release} read no systemvm.iso; it ended with 4.16")
    with output.file(place) as new, _clock_stands_at(facts.epoch), contextlib.ExitStack() as stack:
        image = pycdlib.PyCdlib()
        image.new(interchange_level=1, vol_ident=_VOLUME, rock_ridge="1.09")
        stack.callback(image.close)
        for name, iso_name in _FILES:
            file = stack.enter_context((folder / name).open("rb"))
            image.add_fp(file, (folder / name).stat().st_size, iso_name, rr_name=name, file_mode=_MODE)
        image.write(str(new))
