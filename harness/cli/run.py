"""``sysvm run``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bundle.cli._options import json_option
from harness.cli._options import network_backend_option, results_option
from harness.cli._subject import subject_arguments, subject_options


@click.command()
@click.option("--type", "vm_type", default="router", show_default=True, help="VM types, separated by commas.")
@click.option(
    "--from",
    "from_release",
    default=None,
    help="Releases before the patch, separated by commas (what --from-source says, or the catalogue's default).",
)
@click.option(
    "--to",
    "to_release",
    default=None,
    help="Release after the patch (what --source says, or the catalogue's default).",
)
@click.option("--debian", type=int, help="Another Debian than the release's own.")
@click.option("--network", help="Declared network: a name or a TOML file.")
@subject_options
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
@network_backend_option
@results_option
@json_option
def run(
    vm_type: str, from_release: str | None, to_release: str | None, debian: int | None, network: str | None,
    wanted: str, workers: int, network_backend: str | None, root: Path, as_json: bool, **subject: Any,
) -> int:  # fmt: skip
    """Boot a system VM, live patch it, break it, roll it back, and judge all of it.

    Without options the reference payload is judged. For a CloudStack tree of your own:

      sysvm run --source ~/cloudstack --from-source ~/cloudstack-4.20
    """
    from bundle import catalogue
    from harness.cli._judge import judge
    from harness.vm import backends
    from harness.vm.types import of_type

    facts = catalogue.load()
    chosen = {
        **subject_arguments(subject),
        "--type": ",".join(of_type(word).vm_type for word in vm_type.split(",")),
        "--results": str(root.absolute()),
        "--scenario": wanted,
        "--network-backend": backends.find(network_backend).name,
    }
    if from_release is not None:
        chosen["--from"] = ",".join(facts.release(word).name for word in from_release.split(","))
    if to_release is not None:
        chosen["--to"] = facts.release(to_release).name
    if network is not None:
        chosen["--network"] = str(Path(network).absolute()) if Path(network).is_file() else network
    if debian is not None:
        chosen["--debian"] = str(debian)
    flags = ["--mixed"] if subject["mixed"] else []
    arguments = [*(f"{name}={value}" for name, value in chosen.items()), *flags, "-n", str(workers)]
    return judge(arguments, as_json)
