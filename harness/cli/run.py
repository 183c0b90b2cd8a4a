"""``sysvm run``: the main job."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from bundle.errors import Exit, UsageError


@click.command()
@click.option("--type", "vm_type", default="router", show_default=True, help="VM types, separated by commas.")
@click.option(
    "--from",
    "from_release",
    default=None,
    help="Releases before the patch, separated by commas (the catalogue's default).",
)
@click.option("--to", "to_release", default=None, help="Release after the patch (the catalogue's default).")
@click.option("--debian", type=int, help="Another Debian than the release's own.")
@click.option("--network", help="Declared network: a name or a TOML file.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Patch with this bundle instead of our own.")
@click.option(
    "--scenario",
    "wanted",
    default="default",
    show_default=True,
    help="Scenarios by parts of their ids, separated by commas, such as S08; 'all' of them; or the 'default' ones.",
)
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="Scenarios at the same time; 0 runs them one after the other, in this process.",
)
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Folder of all runs.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON instead of a table.")
def run(
    vm_type: str, from_release: str | None, to_release: str | None, debian: int | None, network: str,
    bundle: Path | None, wanted: str, workers: int, results: Path, as_json: bool,
) -> int:  # fmt: skip
    """Boot a system VM, live patch it, break it, roll it back, and judge all of it."""
    from bundle import catalogue
    from harness.topology import of_type

    facts = catalogue.load()
    before = [facts.release(word).name for word in (from_release or facts.default_from).split(",")]
    chosen = {
        "--from": ",".join(before),
        "--to": facts.release(to_release or facts.default).name,
        "--type": ",".join(of_type(word).vm_type for word in vm_type.split(",")),
        "--results": str(results.absolute()),
        "--scenario": wanted,
    }
    if network is not None:
        chosen["--network"] = str(Path(network).absolute()) if Path(network).is_file() else network
    if debian is not None:
        chosen["--debian"] = str(debian)
    if bundle is not None:
        chosen["--bundle"] = str(bundle.absolute())
    arguments = [*(f"{name}={value}" for name, value in chosen.items()), "-n", str(workers)]
    return _judge(arguments, as_json)


def _judge(arguments: list[str], as_json: bool) -> int:
    import json
    import tempfile
    from dataclasses import asdict

    import pytest

    from harness.events import read
    from harness.report import build
    from harness.report.table import render_table
    from harness.runs import Latest

    here = Path(__file__).parent.parent / "scenarios"
    ran = Latest()
    with tempfile.TemporaryFile("w+") as log, contextlib.redirect_stdout(log):
        status = pytest.main(
            [
                str(here),
                "-c",
                str(here / "pytest.ini"),
                "--rootdir",
                str(here),
                "-p",
                "harness.plugin",
                *arguments,
            ],
            plugins=[ran],
        )
        log.seek(0)
        text = log.read()
    if ran.run is None:
        last = text.strip().splitlines()[-1:] or [f"pytest ended with status {status}"]
        raise UsageError(f"no scenario was run: {last[0]}")
    ran.run.results.log("pytest.log").write_text(text)
    report = build(read(ran.run.results.events), name=ran.run.results.name)
    if as_json:
        click.echo(json.dumps(asdict(report), indent=1))
    else:
        from rich.console import Console

        terminal = Console()
        if not terminal.is_terminal:
            terminal.width = 160
        terminal.print(render_table(report))
        click.echo(f"report: {ran.run.results.html}")
    if ran.run.problem is not None:
        click.echo(f"sysvm: {ran.run.problem.text}", err=True)
        return ran.run.problem.exit_status
    return Exit.OK if report.verdict == "passed" and status == 0 else Exit.FAILED
