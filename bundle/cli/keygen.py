"""``sysvm bundle keygen``."""

from __future__ import annotations

from pathlib import Path

import click

from bundle.cli._options import PATH, json_option
from bundle.sink import tell, tell_json


@click.command("keygen")
@click.argument("path", metavar="KEY", type=PATH)
@click.option(
    "--passphrase-file", type=PATH, metavar="FILE", help="Encrypt the private key with this passphrase."
)
@json_option
def command(path: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Make a P-384 key pair: KEY is the private key, KEY.pub the public one that hosts and guests trust."""
    from bundle.errors import UsageError
    from bundle.seal.ecdsa import generate

    passphrase = None
    if passphrase_file is not None:
        try:
            passphrase = passphrase_file.read_bytes().rstrip(b"\r\n")
        except OSError as error:
            raise UsageError(f"{passphrase_file}: {error.strerror}") from error
        if not passphrase:
            raise UsageError(f"{passphrase_file}: the passphrase is empty")
    public = generate(path, passphrase)
    if as_json:
        tell_json({"private_key": str(path), "public_key": str(public)})
        return
    tell(f"{path}: private key, keep it secret")
    tell(f"{public}: public key, for 'sysvm bundle verify --trust'")
