"""``sysvm bundle stage``."""

from __future__ import annotations

from pathlib import Path

import click

from bundle.cli._options import PATH, bundle_argument, layout_option


@click.command("stage")
@bundle_argument
@layout_option
@click.option(
    "--root", type=PATH, default=Path("/"), show_default=True, metavar="DEST", help="The host's root folder."
)
@click.option("--trust", type=PATH, metavar="PUBKEY", help="The public key that must have signed the bundle.")
def command(folder: Path, layout_name: str, root: Path, trust: Path | None) -> None:
    """Verify a bundle and put its three files where a host expects them; keeps what was there before."""
    from bundle.stage import stage

    staged = stage(folder, layout_name, root, trust)
    for path in staged.files:
        click.echo(str(path))
    if staged.backup is not None:
        click.echo(f"the former files are in {staged.backup}", err=True)
