"""``sysvm bundle adopt``."""

from __future__ import annotations

from pathlib import Path

import click

from bundle.cli._options import PATH, Keys, bundle_argument, json_option, key_options
from bundle.sink import tell, tell_json


@click.command("adopt")
@bundle_argument
@click.option(
    "-o", "--output", type=PATH, required=True, metavar="OUT", help="The bundle folder that is to appear."
)
@click.option("--release", metavar="R", help="The release, where the agent's own jar does not say it.")
@click.option(
    "--build-number",
    type=click.IntRange(1, 1 << 52),
    metavar="N",
    help="A number that grows with every build; SOURCE_DATE_EPOCH without it.",
)
@key_options
@json_option
def command(
    folder: Path, output: Path, release: str | None, build_number: int | None, as_json: bool, keys: Keys
) -> None:
    """Make a bundle of three files that others made: the same bytes, with a manifest of their own."""
    from bundle.adopt import adopt
    from bundle.build import source_date_epoch

    number = build_number or source_date_epoch() or 0
    found = adopt(folder, output, release=release, build=number, signer=keys.signer())
    if as_json:
        summary = {**vars(found.facts), "content_digest": found.content_digest}
        tell_json({"folder": str(output), **summary})
        return
    tell(f"{output}: CloudStack {found.facts.name}, adopted, content digest sha256:{found.content_digest}")
