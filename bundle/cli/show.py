"""``sysvm bundle show``."""

from __future__ import annotations

from pathlib import Path

import click

from bundle.cli._options import bundle_argument, json_option, print_json


@click.command("show")
@bundle_argument
@json_option
def command(folder: Path, as_json: bool) -> None:
    """Show what a bundle is and what is inside, from its manifest; 'verify' proves it."""
    import json

    from bundle import layout
    from bundle.errors import CheckFailed
    from bundle.inspect.trio import is_bare
    from bundle.seal import manifest

    if is_bare(folder):
        raise CheckFailed(
            f"{folder}: no {layout.MANIFEST}", hint="'sysvm bundle adopt' makes a bundle of these three files"
        )
    found = manifest.load(folder / layout.MANIFEST)
    if as_json:
        print_json(json.loads(found.to_bytes()))
        return
    from rich.console import Console
    from rich.table import Table

    facts = Table(title=str(folder), show_header=False)
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in vars(found.facts).items():
        facts.add_row(name.replace("_", " "), str(value))
    facts.add_row("content digest", f"sha256:{found.content_digest}")
    facts.add_row("signed", "yes" if (folder / layout.MANIFEST_SIGNATURE).is_file() else "no")
    console = Console()
    console.print(facts)
    for archive, rows in found.members.items():
        table = Table(title=archive)
        for title in ("mode", "size", "sha256", "path"):
            table.add_column(title, justify="right" if title == "size" else "left", no_wrap=title != "path")
        for row in rows:
            size = str(row.size) if row.kind == "file" else ""
            table.add_row(
                f"{row.mode:04o}", size, row.sha256[:12], row.path + ("/" if row.kind == "dir" else "")
            )
        console.print(table)
