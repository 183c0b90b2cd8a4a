"""``sysvm vm``: system VMs by hand."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundle.cli._options import json_option
from bundle.errors import Exit, UsageError
from bundle.sink import hand_on, tell, tell_json
from harness.cli import _complete
from harness.cli._options import network_backend_option

if TYPE_CHECKING:
    from harness.kept.listing import KeptVm


@click.group()
def vm() -> None:
    """Start, enter and stop system VMs by hand."""


@vm.command()
@click.option(
    "--type",
    "vm_type",
    default="router",
    metavar="TYPE",
    show_default=True,
    help="VM type.",
    shell_complete=_complete.vm_types,
)
@click.option("--name", default=None, help="What to call it; its type without one.")
@click.option(
    "--from",
    "release",
    default=None,
    metavar="R",
    shell_complete=_complete.releases,
    help="Release that it runs (the catalogue's default).",
)
@click.option("--debian", type=int, metavar="D", help="Another Debian than the release's own.")
@click.option(
    "--network",
    metavar="NET",
    help="Declared network: a name or a TOML file.",
    shell_complete=_complete.networks,
)
@click.option(
    "--template",
    metavar="[R=]NAME|FILE",
    shell_complete=_complete.images,
    help="Boot this image of the cache ('sysvm image list'), such as an imported one, or a file; R as with --from.",
)
@network_backend_option
@json_option
def start(
    vm_type: str,
    name: str | None,
    release: str | None,
    debian: int | None,
    network: str | None,
    template: str | None,
    network_backend: str | None,
    as_json: bool,
) -> int:
    """Start a system VM and keep it: booted, configured, with its tenants."""
    from bundle import catalogue
    from harness.kept import start
    from harness.lab.wish import Wish

    facts = catalogue.load()
    template, release = _of_release(template, release)
    chosen = facts.release(release or facts.default_from).name
    wish = Wish(
        vm_type, chosen, facts.default, debian, network, template=template, network_backend=network_backend
    )
    return _tell(start.start(name or vm_type, wish, start.from_golden), as_json=as_json)


def _of_release(template: str | None, release: str | None) -> tuple[str | None, str | None]:
    """Return a template without the release in front of it, and the release that is named there or by itself."""
    if template is None or "=" not in template or Path(template).is_file():
        return template, release
    from bundle import catalogue

    facts = catalogue.load()
    first, _, name = template.partition("=")
    said = facts.release(first).name
    if release is not None and facts.release(release).name != said:
        raise UsageError(f"--template {template} is of {said}, and --from says {release}")
    return name, said


def _tell(kept: KeptVm, *, as_json: bool) -> int:
    if as_json:
        tell_json(asdict(kept))
        return Exit.OK
    tell(f"{kept.name}: {kept.vm_type} of {kept.release}, {kept.label}")
    for address, port in kept.endpoints.items():
        tell(f"  {address} is at 127.0.0.1:{port}")
    if kept.namespace is not None:
        tell(f"  ip netns exec {kept.namespace} tcpdump -i any")
    tell(f"  sysvm vm ssh {kept.name} | console {kept.name} | stop {kept.name}")
    return Exit.OK


@vm.command()
@click.argument("name", shell_complete=_complete.kept)
@click.argument("snapshot", required=False)
@json_option
def snapshot(name: str, snapshot: str | None, as_json: bool) -> int:
    """Take a snapshot of a VM: memory, devices and disk; the VM goes on."""
    from harness.kept import snapshots
    from harness.kept.listing import find

    taken = snapshots.take(find(name), snapshot)
    if as_json:
        tell_json(asdict(taken))
    else:
        tell(f"{taken.name}: taken; 'sysvm vm restore {taken.name}' puts {taken.vm} back")
    return Exit.OK


@vm.command()
@click.argument("snapshot")
@click.option("--name", default=None, help="Start another VM of this name instead of putting the VM back.")
@network_backend_option
@json_option
def restore(snapshot: str, name: str | None, network_backend: str | None, as_json: bool) -> int:
    """Put a VM back to a snapshot, named itself or by its VM's name (the latest then)."""
    from harness.kept import snapshots

    return _tell(snapshots.restore(snapshots.find(snapshot), name, network_backend), as_json=as_json)


@vm.command()
@click.argument("names", nargs=-1, required=True)
@json_option
def forget(names: tuple[str, ...], as_json: bool) -> int:
    """Remove snapshots."""
    from harness.kept import snapshots

    for name in names:
        snapshots.forget(name)
        if not as_json:
            tell(f"{name}: removed")
    if as_json:
        tell_json({"removed": list(names)})
    return Exit.OK


@vm.command(name="list")
@json_option
def list_(as_json: bool) -> int:
    """List the VMs that are kept, and the snapshots that were taken of them."""
    from harness.kept import snapshots
    from harness.kept.listing import all_kept
    from harness.kept.stop import alive

    rows = all_kept()
    running: set[str] = set()
    if rows:
        with alive() as (_host, domains):
            running = domains
    if as_json:
        found = [{"kind": "vm", **asdict(row), "running": row.domain() in running} for row in rows]
        taken = [{"kind": "snapshot", **asdict(one)} for one in snapshots.every()]
        tell_json(found + taken)
        return Exit.OK
    for row in rows:
        state = "running" if row.domain() in running else "gone"
        tell(
            f"{row.name:16} {row.vm_type:14} {row.release:6} {state:8} ssh 127.0.0.1:{row.ssh_port}  {row.label}"
        )
    for one in snapshots.every():
        tell(f"{one.name:16} {one.vm_type:14} {one.release:6} snapshot of {one.vm}, {one.taken}")
    return Exit.OK


class _Foreign(click.Command):
    """A command whose second argument begins a command line of somebody else's: no word from there on is ours."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``--`` before the second argument, so that ``exec NAME ls -h`` asks ``ls`` for help."""
        with_value = {
            name for option in self.params if isinstance(option, click.Option) for name in option.opts
            if not option.is_flag
        }  # fmt: skip
        place, arguments = 0, 0
        while place < len(args) and args[place] != "--":
            if args[place].startswith("-"):
                place += 2 if args[place] in with_value else 1
                continue
            arguments += 1
            if arguments == 2:
                args = [*args[:place], "--", *args[place:]]
                break
            place += 1
        return super().parse_args(ctx, args)


@vm.command(name="exec", cls=_Foreign)
@click.argument("name", shell_complete=_complete.kept)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--deadline",
    type=click.FloatRange(0),
    metavar="SECONDS",
    default=600.0,
    show_default=True,
    help="Seconds until it must have ended.",
)
def execute(name: str, command: tuple[str, ...], deadline: float) -> int:
    """Run a command in a VM; ends with the command's status."""
    import shlex

    from harness.kept.listing import find

    line = command[0] if len(command) == 1 else shlex.join(command)
    with find(name).guest() as guest:
        done = guest.run(line, deadline=deadline, check=False)
    hand_on(done.stdout)
    hand_on(done.stderr, err=True)
    return done.status


@vm.command()
@click.argument("name", shell_complete=_complete.kept)
def ssh(name: str) -> None:
    """Open a shell in a VM; the person's known_hosts is left alone."""
    from harness.guest import terminal
    from harness.kept.listing import find

    kept = find(name)
    terminal.require_ssh()
    command = terminal.ssh_command(kept.ssh_port, Path(kept.ssh_key))
    os.execvp(command[0], command)  # noqa: S606 - the shell is the person's, in the guest


@vm.command()
@click.argument("name", shell_complete=_complete.kept)
def console(name: str) -> int:
    """Attach to the serial line of a VM, live; Ctrl-] leaves."""
    from harness.guest import terminal
    from harness.kept.listing import find

    terminal.attach(find(name).console_socket)
    return Exit.OK


@vm.command()
@click.argument("name", shell_complete=_complete.kept)
def logs(name: str) -> int:
    """Print everything that the serial console of a VM has said."""
    from harness.kept.listing import find

    hand_on(find(name).console_log.read_bytes().decode(errors="replace"))
    return Exit.OK


@vm.command()
@click.argument("names", nargs=-1, shell_complete=_complete.kept)
@click.option("--all", "every", is_flag=True, help="Stop all.")
@json_option
def stop(names: tuple[str, ...], every: bool, as_json: bool) -> int:
    """Stop VMs and remove everything that belongs to them."""
    from harness.kept import stop
    from harness.kept.listing import all_kept, find

    if not names and not every:
        raise UsageError("name the VMs to stop, or give --all")
    rows = all_kept() if every else [find(name) for name in names]
    for row in rows:
        stop.stop(row)
        if not as_json:
            tell(f"{row.name}: stopped")
    if as_json:
        tell_json({"stopped": [row.name for row in rows]})
    return Exit.OK
