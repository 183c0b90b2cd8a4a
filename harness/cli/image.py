"""``sysvm image``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from bundle.cli._options import PATH, json_option, renamed
from bundle.errors import UsageError
from bundle.sink import cell, tell, tell_json
from bundle.sink import show as show_table
from harness.cli import _complete

if TYPE_CHECKING:
    from harness.image import Image

_RELEASE = click.option("--release", required=True, metavar="R", help="CloudStack release, such as 4.22.")


@click.group()
def image() -> None:
    """Build, import and list system VM template images."""


@image.command()
@click.option(
    "--release", metavar="R", help="CloudStack release, such as 4.22 (with --source: what the tree says)."
)
@click.option(
    "--source", type=PATH, metavar="TREE", help="Build the template that a CloudStack checkout defines."
)
@click.option("--debian", type=int, metavar="D", help="Another Debian release than the catalogue's.")
@renamed(
    "--type",
    "--kind",
    "kind",
    type=click.Choice(["slim", "network", "full"]),
    default=None,
    help="What the reference payload uses (slim, the default), the daemons of VPN, dynamic routing and IPv6 besides "
    "(network), or what a genuine template has (full).",
)
@click.option(
    "--bundle",
    type=PATH,
    metavar="DIR",
    help="Bake these scripts in; without it, the reference payload's of the release.",
)
@click.option("--mirror", metavar="URL", help="Take packages from here, not from the host's apt sources.")
@json_option
def build(
    release: str | None,
    source: Path | None,
    debian: int | None,
    kind: Literal["slim", "network", "full"] | None,
    bundle: Path | None,
    mirror: str | None,
    as_json: bool,
) -> None:
    """Build a template image, or find it in the cache: the same bytes from the same packages and scripts."""
    if release is None and source is None:
        raise UsageError("--release is missing", hint="name one, or a CloudStack checkout with --source")
    if source is not None and kind is not None:
        raise UsageError("--kind is for templates of the reference payload; --source says itself what it has")
    from bundle import catalogue
    from bundle.build import BuildOptions
    from bundle.build import build as build_bundle
    from bundle.source.checkout import tree_version
    from harness.image import ImageSpec
    from harness.image import build as build_image
    from harness.record.progress import shown

    release = catalogue.load().release(release or tree_version(source or Path())).name
    with tempfile.TemporaryDirectory(prefix="sysvm-") as scratch:
        if bundle is None:
            bundle = Path(scratch) / "bundle"
            build_bundle(BuildOptions(output=bundle, release=release, source=source))
        spec = ImageSpec(
            release=release, bundle=bundle, debian=debian, kind=kind or "slim", mirror=mirror, source=source
        )
        _print(build_image(spec, shown()), as_json)


@image.command("import")
@click.argument("file", type=PATH)
@_RELEASE
@click.option("--sha512", metavar="HEX", help="What the file's SHA-512 must be.")
@click.option("--sha256", metavar="HEX", help="What the file's SHA-256 must be.")
@click.option("--md5", metavar="HEX", help="What the file's MD5 must be.")
@json_option
def import_(
    file: Path, release: str, sha512: str | None, sha256: str | None, md5: str | None, as_json: bool
) -> None:
    """Take a genuine template: qcow2, also packed with bzip2, xz, zstd or gzip."""
    from harness.image.importing import take
    from harness.record.progress import shown

    given = {"sha512": sha512, "sha256": sha256, "md5": md5}
    digests = {algorithm: digest for algorithm, digest in given.items() if digest}
    _print(take(file, release, digests=digests, progress=shown()), as_json)


@image.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the images of the cache, the one used last first."""
    from harness.image import list_images

    images = list_images()
    if as_json:
        tell_json([i.metadata for i in images])
        return
    if not images:
        tell("no images; make one with 'sysvm image build'")
        return
    from rich.table import Table

    table = Table("key", "release", "template", "Debian", "type", "base", "packages", "digest", box=None)
    for i in images:
        base = "stand-in" if i.stand_in else "its own"
        debian, count = str(i.debian), str(i.packages)
        row = (i.key[:12], i.release, i.template, debian, i.kind, base, count, i.digest[:12])
        table.add_row(*map(cell, row))
    show_table(table)


@image.command()
@click.argument("name", shell_complete=_complete.images)
@json_option
def show(name: str, as_json: bool) -> None:
    """Show an image; NAME is the beginning of its key or digest."""
    from harness.image import find

    _print(find(name), as_json)


@image.command(hidden=True)
@click.option(
    "--days", type=click.FloatRange(0), default=7, show_default=True, help="Keep what was used since."
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed.")
@json_option
def gc(days: float, dry_run: bool, as_json: bool) -> None:
    """Remove images that were not used for some days, bases that none needs, and what killed builds left."""
    from harness.vm.retention import collect_images

    tell(
        "warning: 'sysvm image gc' goes with version 0.3; 'sysvm cache gc --days N' cleans images, too",
        err=True,
    )
    removed = collect_images(days, dry_run=dry_run)
    if as_json:
        tell_json([str(path) for path in removed])
        return
    for path in removed:
        tell(f"{'would remove' if dry_run else 'removed'} {path}")


def _print(found: Image, as_json: bool) -> None:
    if as_json:
        tell_json(found.metadata)
        return
    tell(f"{found.label()}, CloudStack {found.release}")
    tell(f"disk    {found.path}")
    tell(f"sha256  {found.digest}")
    if found.direct_boot:
        tell(f"kernel  {found.kernel_version}, root={found.root_device}")
    tell(f"sbom    {found.sbom} ({found.packages} packages)")
    for line in found.left_out:
        tell(f"without {line}")
