"""``sysvm bundle stage``."""

from __future__ import annotations

from pathlib import Path

import click

from bundle.cli._options import PATH, bundle_argument
from bundle.sink import tell


@click.command("stage")
@bundle_argument
@click.option(
    "--layout",
    "layout_name",
    type=click.Choice(["management", "kvm", "xenserver"]),
    default="management",
    show_default=True,
    help="The kind of host.",
)
@click.option(
    "--root", type=PATH, metavar="DEST", help="Put the files below this root folder; / is this host."
)
@click.option("--deb", type=PATH, metavar="FILE", help="Make a Debian package of the same content.")
@click.option("--rpm", type=PATH, metavar="FILE", help="Make an RPM package of the same content.")
@click.option("--trust", type=PATH, metavar="PUBKEY", help="The public key that must have signed the bundle.")
def command(
    folder: Path, layout_name: str, root: Path | None, deb: Path | None, rpm: Path | None, trust: Path | None
) -> None:
    """Verify a bundle and put its three files where a host expects them, or into packages that do."""
    from bundle.errors import UsageError
    from bundle.ship.packages import make_deb, make_rpm
    from bundle.ship.stage import stage

    if root is None and deb is None and rpm is None:
        raise UsageError("nothing to do", hint="say where: --root DEST, --deb FILE or --rpm FILE")
    if deb is not None:
        make_deb(folder, layout_name, deb, trust)
        tell(str(deb))
    if rpm is not None:
        make_rpm(folder, layout_name, rpm, trust)
        tell(str(rpm))
    if root is not None:
        staged = stage(folder, layout_name, root, trust)
        for path in staged.files:
            tell(str(path))
        if staged.backup is not None:
            tell(f"the former files are in {staged.backup}", err=True)
