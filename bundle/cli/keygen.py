"""``sysvm bundle keygen``."""

from __future__ import annotations

from pathlib import Path

import click

from bundle.cli._options import PATH
from bundle.sink import tell


@click.command("keygen")
@click.argument("path", metavar="KEY", type=PATH)
def command(path: Path) -> None:
    """Make a P-384 key pair: KEY is the private key, KEY.pub the public one that hosts and guests trust."""
    from bundle.seal.ecdsa import generate

    public = generate(path)
    tell(f"{path}: private key, keep it secret")
    tell(f"{public}: public key, for 'sysvm bundle verify --trust'")
