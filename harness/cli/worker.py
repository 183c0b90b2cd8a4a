"""``sysvm worker``: lend this machine to runs of other machines."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundle.cli._options import PATH, json_option
from bundle.errors import UsageError
from bundle.sink import tell, tell_json
from harness.cli._options import certificates_option

if TYPE_CHECKING:
    from harness.plugin.cluster.serving import Ready


@click.command()
@click.argument("address", required=False)
@click.option(
    "--init", "folder", type=PATH, metavar="DIR", help="Make the certificates of a cluster, and end."
)
@certificates_option
@click.option("--scheduler", is_flag=True, help="Be the scheduler at ADDRESS, in place of a host.")
@click.option("--name", help="What this host is called in events and reports (its host name).")
@click.option(
    "--slots",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Scenarios at the same time (one a core, as long as there is memory for their machines).",
)
@json_option
def worker(
    address: str | None,
    folder: Path | None,
    certificates: Path | None,
    scheduler: bool,
    name: str | None,
    slots: int | None,
    as_json: bool,
) -> None:
    """Make scenarios for 'sysvm run --on ADDRESS' until it is ended; ADDRESS is the scheduler's, tcp://HOST:PORT.

    Beyond loopback all speak TLS with the certificates of --init, which every host must have. Who has them may run any
    program on every host.
    """
    if folder is not None:
        _init(folder, address, as_json)
        return
    if address is None:
        raise UsageError("no address of a scheduler is named", hint="sysvm worker tcp://HOST:8786")
    from harness.plugin.cluster import host, serving
    from harness.plugin.cluster.address import read_meeting

    meeting = read_meeting(address, certificates)
    if scheduler:
        if name is not None or slots is not None:
            raise UsageError("--name and --slots are about a host, and --scheduler is none")
        serving.serve_scheduler(meeting, lambda ready: _ready(ready, None, as_json))
        return
    places = slots or host.places()
    called = name or socket.gethostname()
    serving.serve_host(meeting, called, places, lambda ready: _ready(ready, places, as_json))


def _init(folder: Path, address: str | None, as_json: bool) -> None:
    from harness.plugin.cluster.address import make_certificates

    if address is not None:
        raise UsageError("--init makes certificates and nothing else", hint=f"leave out {address}")
    end = make_certificates(folder)
    if as_json:
        tell_json({"certificates": str(folder), "until": end.date().isoformat()})
    else:
        tell(
            f"{folder}: certificates until {end:%Y-%m-%d}; copy the folder to every host, and to nobody else"
        )


def _ready(ready: Ready, places: int | None, as_json: bool) -> None:
    if as_json:
        tell_json({"name": ready.name, "address": ready.address, "slots": places})
    elif places is None:
        tell(f"the scheduler is at {ready.address}")
    else:
        tell(f"{ready.name} takes part at {ready.address}, with {places} slots")
