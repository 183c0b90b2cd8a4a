"""``sysvm bundle verify``."""

from __future__ import annotations

from pathlib import Path

import click

from bundle.cli._options import PATH, bundle_argument, json_option, print_json


@click.command("verify")
@bundle_argument
@click.option(
    "--trust",
    type=PATH,
    metavar="PUBKEY",
    help="The public key, or a folder of keys, that must have signed it.",
)
@json_option
def command(folder: Path, trust: Path | None, as_json: bool) -> None:
    """Prove a bundle: sums, manifest, signature, and every member of both archives."""
    from bundle.errors import CheckFailed
    from bundle.inspect.trio import find_trio, is_bare, is_installed
    from bundle.inspect.verify import verify, verify_installed

    place = find_trio(folder) or folder
    if is_bare(place):
        if trust is not None:
            raise CheckFailed(f"{place}: no manifest.json, so nothing is signed")
        _tell_bare(place, as_json)
        return
    installed = is_installed(place)
    found = verify_installed(place, trust) if installed else verify(folder, trust)
    digest, facts = found.manifest.content_digest, found.manifest.facts
    state = "signed, not checked" if found.signed else "not signed"
    if found.trusted:
        state = "signed by the trusted key"
    notes = [_INSTALLED] if installed else []
    if facts.row == "newest":
        notes.append(
            f"{facts.name} was built by the rules of {facts.release}: it is newer than the catalogue was"
        )
    if as_json:
        print_json(
            {
                "folder": str(folder),
                "content_digest": digest,
                "signed": found.signed,
                "trusted": found.trusted,
                "not_proven": notes,
            }
        )
        return
    click.echo(f"{folder}: verified, {state}")
    for note in notes:
        click.echo(f"note: {note}")
    if found.signed and not found.trusted:
        click.echo("hint: --trust PUBKEY checks who signed it", err=True)


_INSTALLED = "proven by the manifest beside the files; bill of materials and provenance stayed in the bundle"
_BARE = (
    "who made these files, and that they belong together",
    "that nothing is missing in them or was added",
    "that the patch script is for these archives",
)


def _tell_bare(folder: Path, as_json: bool) -> None:
    """Read three files that have no manifest, and say what that does not prove."""
    from bundle import catalogue
    from bundle.errors import UsageError
    from bundle.inspect.trio import read_trio

    try:
        found = read_trio(folder, catalogue.load())
    except OSError as error:
        raise UsageError(f"{error.filename or folder}: {error.strerror}") from error
    version = found.version or "an unknown version"
    if as_json:
        said = {"folder": str(folder), "content_digest": None, "signed": False, "trusted": False}
        print_json({**said, "version": found.version, "script": found.script.kind, "not_proven": list(_BARE)})
        return
    files = sum(row.kind == "file" for rows in found.members.values() for row in rows)
    click.echo(f"{folder}: whole and readable: {files} files of {version}, script: {found.script.kind}")
    for row in _BARE:
        click.echo(f"not proven: {row} (there is no manifest.json)")
    click.echo("hint: 'sysvm bundle adopt' gives these files a manifest of their own", err=True)
