"""``sysvm run``: the main job."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from bundle.cli._options import PATH, json_option
from bundle.errors import UsageError
from harness.cli import _complete
from harness.cli._hosts import hosts_arguments, require_hosts
from harness.cli._options import certificates_option, network_backend_option, results_option
from harness.cli._subject import subject_arguments, subject_options


@click.command()
@click.option(
    "--type",
    "vm_type",
    default="router",
    metavar="TYPE",
    show_default=True,
    help="VM types, separated by commas.",
    shell_complete=_complete.vm_types,
)
@click.option(
    "--from",
    "from_release",
    default=None,
    metavar="R",
    shell_complete=_complete.releases,
    help="Releases before the patch: 4.20, 4.15,4.18..4.20, or all (what --from-source says, or the catalogue's "
    "default).",
)
@click.option(
    "--to",
    "to_release",
    default=None,
    metavar="R",
    shell_complete=_complete.releases,
    help="Release after the patch (what --source says, or the catalogue's default).",
)
@click.option("--debian", type=int, metavar="D", help="Another Debian than the release's own.")
@click.option(
    "--network",
    metavar="NET",
    help="Declared network: a name or a TOML file.",
    shell_complete=_complete.networks,
)
@subject_options
@click.option(
    "--scenario",
    "wanted",
    default="default",
    show_default=True,
    shell_complete=_complete.scenarios,
    help="Scenarios by parts of their ids, separated by commas, such as S08; 'all' of them; or the 'default' ones.",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="Scenarios at the same time; 0 runs them one after the other, in this process.",
)
@click.option(
    "--times",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="How often scenarios with random moments, such as power cuts, are repeated.",
)
@click.option("--seed", type=int, help="What random moments are drawn from (a random number, which is told).")
@network_backend_option
@click.option(
    "--shell-on-failure",
    is_flag=True,
    help="Open a shell in the VM of a scenario that failed, before the VM goes; one scenario at a time then.",
)
@click.option(
    "--stop-before-rollback",
    is_flag=True,
    help="Let a patch that fails stand still before it rolls back, and open a shell in its VM (without a terminal: say "
    "how to get in, and how it goes on); one scenario at a time then.",
)
@click.option(
    "--retry-infrastructure",
    "retries",
    metavar="N",
    type=click.IntRange(0),
    default=0,
    help="Make scenarios again, so many times, that failed because the machine did; never for a wrong answer.",
)
@click.option(
    "--known-failures",
    type=PATH,
    metavar="FILE",
    help="Checks that may fail for a while (TOML): marked in the reports; a row whose day has passed fails the run.",
)
@click.option(
    "--shard",
    metavar="I/N",
    help="Run one part of N, by whole cells; 'sysvm report --merge' makes one run of all. --seed is 0 unless given.",
)
@click.option(
    "--balance",
    metavar="RUN",
    shell_complete=_complete.runs,
    help="With --shard, make the parts equally long by what this run took; give the same to all.",
)
@click.option(
    "--on",
    "scheduler",
    metavar="ADDRESS",
    help="Make the scenarios on the hosts that 'sysvm worker' lends, whose scheduler is there: tcp://HOST:8786.",
)
@certificates_option
@click.option(
    "--keep",
    is_flag=True,
    help="Keep the VMs of scenarios that failed, as snapshots for 'sysvm vm restore'; leave a VM running when its boot "
    "or its first rules fail.",
)
@results_option
@click.option("--junit", type=PATH, metavar="FILE", help="Write the JUnit file here, too.")
@click.option("--list", "only_list", is_flag=True, help="List the scenarios that would run, and run none.")
@click.option("--dry-run", is_flag=True, help="Say what would run and how long it took the last times.")
@json_option
def run(
    workers: int,
    shell_on_failure: bool,
    stop_before_rollback: bool,
    retries: int,
    known_failures: Path | None,
    shard: str | None,
    balance: str | None,
    scheduler: str | None,
    certificates: Path | None,
    root: Path,
    junit: Path | None,
    only_list: bool,
    dry_run: bool,
    as_json: bool,
    **asked: Any,
) -> int:
    """Boot a system VM, live patch it, break it, roll it back, and judge all of it.

    Without options the reference payload is judged. For a CloudStack tree of your own:

      sysvm run --source ~/cloudstack --from-source ~/cloudstack-4.20
    """
    from harness.cli._judge import judge
    from harness.cli._plan import tell_plan
    from harness.record import results

    if shard is not None and asked["seed"] is None:
        asked["seed"] = 0  # the shards of one run draw the same moments as the whole would
    arguments = [*arguments_for(root, **asked), *_shard(shard, balance, root)]
    if known_failures is not None:
        arguments.append(f"--known-failures={known_failures.absolute()}")
    looking = {"--shell-on-failure": shell_on_failure, "--stop-before-rollback": stop_before_rollback}
    arguments += hosts_arguments(scheduler, certificates, {**looking, "--keep": asked["keep"]})
    if only_list or dry_run:
        return tell_plan(arguments, root, workers, cost=dry_run, as_json=as_json)
    results.require_writable(root)
    if shell_on_failure and not sys.stdin.isatty():
        raise UsageError(
            "--shell-on-failure needs a terminal", hint="sysvm repro --command COMMAND looks without one"
        )
    if any(looking.values()):
        workers = 0  # a person looks at one VM at a time
        arguments += [word for word, asked_for in looking.items() if asked_for]
    if scheduler is not None:
        require_hosts(scheduler, certificates, arguments)
        workers = 0
    return judge([*arguments, "-n", str(workers)], as_json, junit, retries=retries)


def _shard(shard: str | None, balance: str | None, root: Path) -> list[str]:
    """Return the plugin's options about the part of a run.

    Raises:
        UsageError: there is no such part, or no such earlier run.
    """
    from harness.plugin.shards import read_shard
    from harness.record import results

    if shard is None:
        if balance is not None:
            raise UsageError("--balance is about --shard")
        return []
    found = [f"--balance={results.find(balance, root).events}"] if balance is not None else []
    return [f"--shard={read_shard(shard)}", *found]


def arguments_for(
    root: Path, *, vm_type: str, from_release: str | None, to_release: str | None, debian: int | None,
    network: str | None, wanted: str, network_backend: str | None, times: int = 1, seed: int | None = None,
    keep: bool = False, **subject: Any,
) -> list[str]:  # fmt: skip
    """Return the plugin's options that say what the command's say; the plugin itself checks them.

    Raises:
        UsageError: the subject cannot be meant.
    """
    chosen: Mapping[str, str | None] = {
        **subject_arguments(subject),
        "--type": vm_type,
        "--results": str(root.absolute()),
        "--scenario": wanted,
        "--network-backend": network_backend,
        "--from": from_release,
        "--to": to_release,
        "--network": str(Path(network).absolute()) if network and Path(network).is_file() else network,
        "--debian": None if debian is None else str(debian),
        "--times": None if times == 1 else str(times),
        "--seed": None if seed is None else str(seed),
    }
    flags = [*(["--mixed"] if subject["mixed"] else []), *(["--keep"] if keep else [])]
    return [*(f"{name}={value}" for name, value in chosen.items() if value is not None), *flags]
