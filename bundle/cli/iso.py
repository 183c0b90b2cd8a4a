"""``sysvm bundle iso``."""

from __future__ import annotations

from pathlib import Path

import click

from bundle.cli._options import PATH, bundle_argument
from bundle.sink import tell


@click.command("iso")
@bundle_argument
@click.option("-o", "--output", type=PATH, required=True, metavar="FILE", help="The image that is to appear.")
def command(folder: Path, output: Path) -> None:
    """Make the systemvm.iso of a release before 4.17 from the two archives of a bundle."""
    from bundle.ship.iso import make_iso

    make_iso(folder, output)
    tell(str(output))
