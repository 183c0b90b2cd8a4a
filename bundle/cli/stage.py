"""``sysvm bundle stage``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bundle.cli._options import PATH, bundle_argument, json_option
from bundle.sink import tell, tell_json


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
@click.option(
    "--trust",
    type=PATH,
    metavar="PUBKEY",
    help="The public key, or a folder of keys, that must have signed it.",
)
@click.option(
    "--allow-downgrade", is_flag=True, help="Let an older release or build take the place of a newer one."
)
@json_option
def command(
    folder: Path,
    layout_name: str,
    root: Path | None,
    deb: Path | None,
    rpm: Path | None,
    trust: Path | None,
    allow_downgrade: bool,
    as_json: bool,
) -> None:
    """Verify a bundle and put its files where a host of its release expects them, or into packages that do."""
    from bundle.errors import UsageError
    from bundle.ship.packages import make_deb, make_rpm
    from bundle.ship.stage import stage

    if root is None and deb is None and rpm is None:
        raise UsageError("nothing to do", hint="say where: --root DEST, --deb FILE or --rpm FILE")
    said: dict[str, Any] = {"packages": [], "files": [], "backup": None}
    for make, place in ((make_deb, deb), (make_rpm, rpm)):
        if place is not None:
            found = make(folder, layout_name, place, trust)
            said["packages"].append(str(place))
            if not found.facts.build:
                tell(
                    f"warning: {place}: without a build number packages do not order by time"
                    " (build with --build-number or SOURCE_DATE_EPOCH)",
                    err=True,
                )
    if root is not None:
        staged = stage(folder, layout_name, root, trust, allow_downgrade=allow_downgrade)
        said["files"] = [str(path) for path in staged.files]
        said["backup"] = None if staged.backup is None else str(staged.backup)
    _tell(said, as_json=as_json)


def _tell(said: dict[str, Any], *, as_json: bool) -> None:
    """Print what was made."""
    if as_json:
        tell_json(said)
        return
    for path in (*said["packages"], *said["files"]):
        tell(path)
    if said["backup"] is not None:
        tell(f"the former files are in {said['backup']}", err=True)
