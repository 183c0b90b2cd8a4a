"""``sysvm bundle iso``."""

from __future__ import annotations

from pathlib import Path

import click

from bundle.cli._options import PATH, bundle_argument, json_option
from bundle.sink import tell, tell_json


@click.command("iso")
@bundle_argument
@click.option("-o", "--output", type=PATH, required=True, metavar="OUT", help="The image that is to appear.")
@json_option
def command(folder: Path, output: Path, as_json: bool) -> None:
    """Make the systemvm.iso of a release before 4.17 from the two archives of a bundle."""
    from bundle.ship.iso import make_iso

    make_iso(folder, output)
    if as_json:
        tell_json({"image": str(output)})
        return
    tell(str(output))
