"""``sysvm bundle sign``."""

from __future__ import annotations

from pathlib import Path

import click

from bundle.cli._options import Keys, bundle_argument, json_option, key_options
from bundle.sink import tell, tell_json


@click.command("sign")
@bundle_argument
@key_options
@click.option(
    "--openpgp", metavar="USER", help="Also make .asc (with gpg) and .sha512 files, as the ASF does."
)
@json_option
def command(folder: Path, openpgp: str | None, as_json: bool, keys: Keys) -> None:
    """Sign a bundle in its place, after verifying it."""
    from bundle.ship.resign import sign

    found = sign(folder, None, openpgp, keys.signer())
    if as_json:
        tell_json({"folder": str(folder), "content_digest": found.content_digest, "signed": True})
        return
    tell(f"{folder}: signed, content digest sha256:{found.content_digest}")
