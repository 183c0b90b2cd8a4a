"""``sysvm bundle build``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from bundle.cli._options import PATH, Keys, json_option, key_options, renamed
from bundle.sink import tell, tell_json

if TYPE_CHECKING:
    from bundle.build import Built
    from bundle.services import Policy


@click.command("build")
@click.option(
    "-o", "--output", type=PATH, required=True, metavar="OUT", help="The bundle folder that is to appear."
)
@click.option(
    "--source", type=PATH, metavar="TREE", help="A CloudStack checkout; our reference payload without it."
)
@click.option("--release", metavar="R", help="Override the release, for instance 4.21.")
@click.option(
    "--modes",
    type=click.Choice(["careful", "upstream"]),
    default="careful",
    show_default=True,
    help="Mode rules.",
)
@click.option(
    "--agent-jars", type=PATH, metavar="DIR", help="Jars of the agent: a Maven target or cloudstack-common."
)
@key_options
@renamed(
    "--script",
    "--patch-script",
    "script",
    type=PATH,
    metavar="FILE",
    help="Ship this patch script in place of ours.",
)
@click.option(
    "--restart",
    type=click.Choice(["graceful", "always", "changed"]),
    default="graceful",
    show_default=True,
    help="How our script renews services; changed: only those that read a changed file.",
)
@click.option(
    "--architecture", type=click.Choice(["all", "amd64", "arm64"]), default="all", show_default=True
)
@click.option("--minimum-template", metavar="R", help="Override the oldest template that may be patched.")
@click.option(
    "--next",
    "newest",
    is_flag=True,
    help="Let the newest known release stand in for a newer one, and say so.",
)
@click.option(
    "--build-number",
    type=click.IntRange(1, 1 << 52),
    metavar="N",
    help="A number that grows with every build; SOURCE_DATE_EPOCH without it.",
)
@click.option(
    "--compress",
    type=click.Choice(["fast", "small"]),
    default="fast",
    show_default=True,
    help="fast: store what is compressed already; small: deflate jars again, for some 9 % of the size.",
)
@click.option("--workers", type=click.IntRange(1, 256), metavar="N", help="Threads; one a core without it.")
@click.option("--mend-line-ends", is_flag=True, help="Pack text that has CR LF line ends with LF.")
@click.option("--no-cache", is_flag=True, help="Neither use nor fill the cache of packed members.")
@click.option("--force", is_flag=True, help="Replace a signed bundle of another content.")
@json_option
def command(
    output: Path,
    source: Path | None,
    release: str | None,
    modes: Literal["careful", "upstream"],
    agent_jars: Path | None,
    script: Path | None,
    restart: Policy,
    architecture: str,
    minimum_template: str | None,
    newest: bool,
    build_number: int | None,
    compress: Literal["fast", "small"],
    workers: int | None,
    mend_line_ends: bool,
    no_cache: bool,
    force: bool,
    as_json: bool,
    keys: Keys,
) -> None:
    """Build a bundle from a source tree: the same bytes from the same source, wherever and whenever."""
    from bundle.build import BuildOptions, WouldReplaceError, build

    signer = keys.signer()
    wish = BuildOptions(
        output=output,
        source=source,
        release=release,
        modes=modes,
        agent_jars=agent_jars,
        signer=signer,
        script=script,
        restart=restart,
        architecture=architecture,
        minimum_template=minimum_template,
        newest=newest,
        build=build_number or 0,
        compress=compress,
        workers=workers or 0,
        cache=not no_cache,
        mend_line_ends=mend_line_ends,
        force=force,
    )
    try:
        built = build(wish)
    except WouldReplaceError as error:
        if as_json or not sys.stdin.isatty() or not click.confirm(f"{error}. Replace it?", err=True):
            raise
        built = build(replace(wish, force=True))
    _tell(built, signed=signer is not None, as_json=as_json)


def _tell(built: Built, *, signed: bool, as_json: bool) -> None:
    """Print what was built."""
    manifest = built.manifest
    if as_json:
        files = {name: vars(fact) for name, fact in manifest.files.items()}
        summary = {**vars(manifest.facts), "content_digest": manifest.content_digest, "files": files}
        tell_json({"folder": str(built.folder), **summary, "signed": signed, "notes": list(built.notes)})
        return
    for note in built.notes:
        tell(f"note: {note}", err=True)
    counts = ", ".join(
        f"{name} {sum(row.kind == 'file' for row in rows)} files"
        for name, rows in sorted(manifest.members.items())
    )
    tell(
        f"{built.folder}: CloudStack {manifest.facts.name}, {counts}, {'signed' if signed else 'not signed'}"
    )
    tell(f"content digest sha256:{manifest.content_digest}")
