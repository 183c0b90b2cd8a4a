"""``sysvm bundle verify``."""

from __future__ import annotations

from pathlib import Path

import click

from bundle.cli._options import PATH, bundle_argument, json_option
from bundle.sink import tell, tell_json


@click.command("verify")
@bundle_argument
@click.option("--trust", type=PATH, metavar="PUBKEY", help="The public key that must have signed the bundle.")
@json_option
def command(folder: Path, trust: Path | None, as_json: bool) -> None:
    """Prove a bundle: sums, manifest, signature, and every member of both archives."""
    from bundle.inspect.verify import verify

    found = verify(folder, trust)
    digest = found.manifest.content_digest
    state = "signed, not checked" if found.signed else "not signed"
    if found.trusted:
        state = "signed by the trusted key"
    if as_json:
        tell_json(
            {
                "folder": str(folder),
                "content_digest": digest,
                "signed": found.signed,
                "trusted": found.trusted,
            }
        )
        return
    tell(f"{folder}: verified, {state}")
    if found.signed and not found.trusted:
        tell("hint: --trust PUBKEY checks who signed it", err=True)
