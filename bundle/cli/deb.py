"""``sysvm bundle deb``."""

from __future__ import annotations

from pathlib import Path

import click

from bundle.cli._options import PATH, bundle_argument, layout_option


@click.command("deb")
@bundle_argument
@click.option(
    "-o", "--output", type=PATH, required=True, metavar="FILE", help="The package that is to appear."
)
@layout_option
def command(folder: Path, output: Path, layout_name: str) -> None:
    """Make a package that installs the three files of a bundle where a host expects them."""
    from bundle.packages import make_deb

    make_deb(folder, layout_name, output)
    click.echo(str(output))
