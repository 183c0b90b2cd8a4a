"""``sysvm bundle sign``."""

from __future__ import annotations

from pathlib import Path

import click

from bundle.cli._options import PATH, bundle_argument
from bundle.sink import tell


@click.command("sign")
@bundle_argument
@click.option("--key", type=PATH, metavar="KEY", help="Private key of 'sysvm bundle keygen'.")
@click.option(
    "--openpgp", metavar="USER", help="Also make .asc (with gpg) and .sha512 files, as the ASF does."
)
def command(folder: Path, key: Path | None, openpgp: str | None) -> None:
    """Sign a bundle in its place, after verifying it."""
    from bundle.ship.resign import sign

    found = sign(folder, key, openpgp)
    tell(f"{folder}: signed, content digest sha256:{found.content_digest}")
