"""``sysvm bundle build``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from bundle.cli._options import PATH, json_option
from bundle.sink import tell, tell_json


@click.command("build")
@click.option(
    "-o", "--output", type=PATH, required=True, metavar="DIR", help="The bundle folder that is to appear."
)
@click.option(
    "--source", type=PATH, metavar="DIR", help="A CloudStack checkout; our reference payload without it."
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
@click.option("--key", type=PATH, metavar="KEY", help="Sign with this private key.")
@click.option("--script", type=PATH, metavar="FILE", help="Ship this patch script in place of ours.")
@click.option(
    "--restart",
    type=click.Choice(["graceful", "always"]),
    default="graceful",
    show_default=True,
    help="How our script restarts services.",
)
@click.option(
    "--architecture", type=click.Choice(["all", "amd64", "arm64"]), default="all", show_default=True
)
@click.option("--minimum-template", metavar="R", help="Override the oldest template that may be patched.")
@click.option("--workers", type=click.IntRange(1, 256), metavar="N", help="Threads; one a core without it.")
@click.option("--no-cache", is_flag=True, help="Neither use nor fill the cache of packed members.")
@json_option
def command(
    output: Path,
    source: Path | None,
    release: str | None,
    modes: Literal["careful", "upstream"],
    agent_jars: Path | None,
    key: Path | None,
    script: Path | None,
    restart: Literal["graceful", "always"],
    architecture: str,
    minimum_template: str | None,
    workers: int | None,
    no_cache: bool,
    as_json: bool,
) -> None:
    """Build a bundle from a source tree: the same bytes from the same source, wherever and whenever."""
    from bundle.build import BuildOptions, build

    built = build(
        BuildOptions(
            output=output,
            source=source,
            release=release,
            modes=modes,
            agent_jars=agent_jars,
            key=key,
            script=script,
            restart=restart,
            architecture=architecture,
            minimum_template=minimum_template,
            workers=workers or 0,
            cache=not no_cache,
        )
    )
    manifest = built.manifest
    if as_json:
        files = {name: vars(fact) for name, fact in manifest.files.items()}
        summary = {**vars(manifest.facts), "content_digest": manifest.content_digest, "files": files}
        tell_json({"folder": str(output), **summary, "signed": key is not None, "notes": list(built.notes)})
        return
    for note in built.notes:
        tell(f"note: {note}", err=True)
    counts = ", ".join(
        f"{name} {sum(row.kind == 'file' for row in rows)} files"
        for name, rows in sorted(manifest.members.items())
    )
    tell(f"{output}: CloudStack {manifest.facts.version}, {counts}, {'signed' if key else 'not signed'}")
    tell(f"content digest sha256:{manifest.content_digest}")
