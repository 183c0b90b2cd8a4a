"""``sysvm serve``: the management server's API over HTTP, and a page to click."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from bundle.cli._options import PATH, json_option
from bundle.errors import Exit, InfrastructureError, UsageError
from bundle.sink import tell, tell_json
from harness.cli import _complete
from harness.cli._targets import HostKeyWish, find_targets, host_key_options, load_bundle

if TYPE_CHECKING:
    from harness.management import Target
    from harness.management.api import Account, ApiService
    from harness.management.api.serving import BackgroundServer

_LOOPBACK = "127.0.0.1"


@click.command()
@click.argument("names", nargs=-1, metavar="[VM]...", shell_complete=_complete.kept)
@click.option(
    "--bundle",
    type=PATH,
    metavar="DIR",
    required=True,
    help="Folder of the bundle that VMs are patched with.",
)
@click.option(
    "--ssh", "where", multiple=True, metavar="[NAME=]HOST:PORT",
    help="Also serve a VM that somebody else started; may be given many times.",
)  # fmt: skip
@click.option("--ssh-key", "key", type=PATH, metavar="KEY", help="Private key for root, with --ssh.")
@host_key_options
@click.option(
    "--release", metavar="R", help="Release of the server; the catalogue's newest when nothing is said."
)
@click.option("--faithful", metavar="R", help="Have the faults of CloudStack's own server of that release.")
@click.option("--ui", type=PATH, metavar="DIR", help="Serve a built CloudStack UI at /client.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one."
)
@click.option("--address", default=_LOOPBACK, show_default=True, help="Another needs --expose, and TLS.")
@click.option("--expose", is_flag=True, help="Yes: listen where other machines can reach it.")
@click.option("--name", "hosts", multiple=True, help="A name that clients call this machine by.")
@click.option("--certificate", type=PATH, help="Certificate chain, PEM: serve HTTPS.")
@click.option("--certificate-key", type=PATH, help="Its private key, PEM.")
@click.option("--enforce-post", is_flag=True, help="Demand POST, and signatures that expire.")
@click.option("--state", type=PATH, help="Folder of the keys and the journal.")
@json_option
def serve(
    names: tuple[str, ...], bundle: Path, where: tuple[str, ...], key: Path | None, release: str | None,
    faithful: str | None, ui: Path | None, port: int, address: str, expose: bool, hosts: tuple[str, ...],
    certificate: Path | None, certificate_key: Path | None, enforce_post: bool, state: Path | None,
    host_keys: tuple[str, ...], trust_first: bool, as_json: bool,
) -> int:  # fmt: skip
    """Serve the API of CloudStack's management server for VMs of 'sysvm vm', all or those that are named."""
    from harness.host import runtime
    from harness.management.api.app import app
    from harness.management.api.pages import pages
    from harness.management.api.serving import BackgroundServer, configuration

    tls = _certificate(certificate, certificate_key)
    _may_listen(address, expose=expose, tls=tls is not None)
    folder = state or runtime.state_root() / "serve"
    with ExitStack() as stack:
        _alone(stack, folder)
        remote = find_targets((), where, key, HostKeyWish(host_keys, trust_first)) if where else []
        service = _service(names, remote, bundle, release, faithful, enforce_post, folder)
        stack.callback(service.close)
        service.watch.start()
        made = app(service, [address, "localhost", *hosts], pages(service.version, ui))
        server = BackgroundServer(configuration(made, service.limits, address, port, tls))
        _tell(service, server, folder, "https" if tls else "http", as_json=as_json)
        stack.callback(server.stop)
        _until_interrupted(server, service)
    return Exit.OK


def _may_listen(address: str, *, expose: bool, tls: bool) -> None:
    """Refuse to listen where others can, unless somebody said so, and nobody can listen in."""
    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        raise UsageError(
            f"invalid address {address!r} (expected an IP address such as {_LOOPBACK})"
        ) from None
    if loopback:
        return
    if not expose or not tls:
        raise UsageError(
            f"other machines can reach {address}",
            hint="that takes --expose, and --certificate with --certificate-key",
        )


def _certificate(chain: Path | None, key: Path | None) -> tuple[str, str] | None:
    if chain is None and key is None:
        return None
    if chain is None or key is None:
        raise UsageError("--certificate and --certificate-key belong together")
    for path in (chain, key):
        if not path.is_file():
            raise UsageError(f"{path}: no such file")
    return str(chain), str(key)


def _alone(stack: ExitStack, folder: Path) -> None:
    """Hold the state folder: two servers would answer for the same VMs, and write one journal."""
    from harness.host import locks

    handle = locks.try_exclusive(folder / "lock")
    if handle is None:
        raise UsageError(f"another 'sysvm serve' uses {folder}", hint="name another folder with --state")
    stack.callback(os.close, handle)


def _service(
    names: tuple[str, ...], remote: list[Target], bundle: Path, release: str | None, faithful: str | None,
    enforce_post: bool, folder: Path,
) -> ApiService:  # fmt: skip
    from bundle import catalogue
    from harness.cli._fleet import ServedFleet
    from harness.management import Inventory
    from harness.management.api import ApiLimits, ApiService, history
    from harness.management.faithful import server_of

    if names:
        find_targets(names, (), None)
    chosen = catalogue.load().release(faithful or release or catalogue.load().default).name
    journal, earlier = history.open_journal(folder / "journal.jsonl")
    made = server_of(chosen, faithful=faithful is not None)(
        Inventory(), load_bundle(bundle), release=chosen, events=journal
    )
    limits = replace(ApiLimits(), enforce_post=enforce_post)
    service = ApiService(
        made,
        ServedFleet(names, remote),
        limits=limits,
        journal=journal,
        faithful=chosen if faithful else None,
    )
    if lost := history.remember(service, earlier):
        tell(f"{lost} jobs of the last server were in progress when it ended: they have failed", err=True)
    return service


def _tell(service: ApiService, server: BackgroundServer, folder: Path, scheme: str, *, as_json: bool) -> None:
    """Start to listen, write the credentials for their owner alone, and print them once."""
    address, port = server.start()
    host = f"[{address}]" if ":" in address else address
    url = f"{scheme}://{host}:{port}"
    document = {
        "url": url,
        "api": f"{url}/client/api",
        "accounts": [_credentials(account) for account in service.accounts],
    }
    _write_private(folder / "keys.json", json.dumps(document, indent=1))
    if as_json:
        tell_json(document)
        return
    tell(f"{url}: the page; {url}/client/api: the API; keys also in {folder / 'keys.json'}")
    for account in service.accounts:
        tell(f"{account.name} ({account.role}, {account.domain}): password {account.password}")
        tell(f"  export CLOUDSTACK_ENDPOINT={url}/client/api CLOUDSTACK_KEY={account.api_key}")
        tell(f"  export CLOUDSTACK_SECRET={account.secret}")


def _credentials(account: Account) -> dict[str, str]:
    return {
        "name": account.name,
        "role": account.role,
        "domain": account.domain,
        "password": account.password,
        "apikey": account.api_key,
        "secret": account.secret,
    }


def _write_private(path: Path, text: str) -> None:
    """Write a file that nobody but its owner can read at any moment."""
    from bundle import files

    with files.appearing(path) as beside:
        try:
            handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InfrastructureError(f"cannot write {path}: {error.strerror}") from None
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)


def _until_interrupted(server: BackgroundServer, service: ApiService) -> None:
    """Serve until somebody interrupts or terminates this process, and let jobs that are under way end.

    Whoever interrupts once more leaves them: a VM finishes or undoes alone, and the next start lists them as failed.
    """

    def end(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        try:
            server.wait()
        except KeyboardInterrupt:
            server.stop()
        if jobs := len(service.jobs.unfinished()):
            tell(f"waiting for {jobs} jobs in progress; interrupt once more to leave them", err=True)
        service.close()
    except KeyboardInterrupt:
        tell("left them", err=True)
        os._exit(Exit.INTERRUPTED)  # else Python would wait for their threads
    finally:
        signal.signal(signal.SIGTERM, before)
