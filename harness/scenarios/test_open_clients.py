"""Agent VMs with clients in the middle of something: it is finished, or the client is told that it is not."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bundle import catalogue
from bundle.errors import InfrastructureError
from harness.host import wait
from harness.lab.budgets import CONSOLE_PORT
from harness.lab.lab import NO_AGENT
from harness.lab.management_network import site_of
from harness.scenario import HostForward, Lab, Trial
from harness.site import nfs, slow_source
from harness.site.site import Site
from harness.site.slow_source import SlowSource
from harness.site.vm_agent_port import VmAgentPort
from harness.traffic.open_console import OpenConsole
from harness.traffic.upload import CREATED, Upload

_SHARE, _SOURCE = ("10.0.0.6", 2049), ("10.0.0.7", 80)
_URL = f"nfs://{_SHARE[0]}{nfs.EXPORT}"
_MOUNTS = "/mnt/SecStorage"
# Enough for a patch of some minutes: the second half goes at 32 KiB a second.
_SIZE = 12 << 20
# Seconds for a question to the agent, and for half of a file to arrive.
_ANSWER, _HALF = 60.0, 120.0


@dataclass(eq=False)
class _Copy(threading.Thread):
    """A copy that a server has asked for, and what it was told of it."""

    agents: VmAgentPort
    fields: dict[str, str]
    answer: dict[str, object] = field(default_factory=dict)
    told: str = ""
    silent: str = ""

    def __post_init__(self) -> None:
        super().__init__(name="copy", daemon=True)

    def run(self) -> None:
        try:
            self.answer = self.agents.ask("copy", 3 * _ANSWER, **self.fields)
        except ConnectionError as error:
            self.told = str(error)
        except InfrastructureError as error:
            self.silent = str(error)


@pytest.fixture
def share(tmp_path: Path) -> Iterator[int]:
    """The loopback port of a share of a real NFS server."""
    if not nfs.installed():
        pytest.skip("the NFS server nfs-ganesha is not installed, and the agent copies into NFS shares alone")
    with nfs.serve(tmp_path) as port:
        yield port


@pytest.fixture
def source() -> Iterator[SlowSource]:
    """The web server that templates are copied from."""
    with slow_source.serve(random.Random(60).randbytes(_SIZE)) as made:  # noqa: S311 - no secret
        yield made


@pytest.fixture
def management_services(request: pytest.FixtureRequest) -> Sequence[HostForward]:
    """The share and the source, as a storage VM finds them on its management network."""
    if "source" not in request.fixturenames:
        return []
    share, source = request.getfixturevalue("share"), request.getfixturevalue("source")
    return [HostForward(share, *_SHARE), HostForward(source.port, *_SOURCE)]


@pytest.mark.scenario(
    "S60-upload-and-copy-told",
    types=catalogue.load().types_that(have="storage"),
    why="only secondary storage takes uploads and copies",
)
def test_an_upload_and_a_copy_in_the_middle_are_finished_or_told(
    lab: Lab, live_patch: Trial, source: SlowSource
) -> None:
    """A browser's upload and a copy of a template are half done: finished whole, or told, and possible again."""
    if not lab.has_agent:
        pytest.skip(NO_AGENT)
    site = _connected(live_patch)
    agents, port = site.agents, live_patch.vm.endpoints[_public(live_patch, 443)]
    upload = _uploading(agents, port, "vol-60", source.data)
    copy = _Copy(agents, _copy_of(source, "template/tmpl/60/a.qcow2"))
    copy.start()
    half = upload.half_sent.wait(_HALF) and source.half_sent.wait(_HALF)
    health = agents.ask("check_health", _ANSWER)
    busy = half and health.get("uploads") == 1 and health.get("copies") == 1
    live_patch.require("clients.half-done", "" if busy else f"before the patch the agent says {health}")
    live_patch.patch(lab.new_bundle)
    live_patch.require("upload.told", upload.finish())
    source.hurry.set()
    copy.join(4 * _ANSWER)
    live_patch.require("copy.told", copy.silent or ("the server is told nothing" if copy.is_alive() else ""))
    _require_whole(live_patch, "upload", f"{_MOUNTS}/upload", "vol-60", upload.status == CREATED, source)
    folder = f"{_MOUNTS}/*/template/tmpl/60"
    _require_whole(live_patch, "copy", folder, "a.qcow2", copy.answer.get("result") is True, source)
    site.connected()
    again = _uploading(agents, port, "vol-61", source.data[: 1 << 20])
    problem = again.finish() or ("" if again.status == CREATED else f"{again.status} {again.told}")
    live_patch.require("upload.again", problem)
    answer = agents.ask("copy", 3 * _ANSWER, **_copy_of(source, "template/tmpl/61/a.qcow2"))
    live_patch.require("copy.again", "" if answer.get("result") is True else f"the agent says {answer}")
    live_patch.vm.guest.run(f"umount $(findmnt -n -o TARGET -t nfs4 | grep {_MOUNTS})", check=False)


def _connected(trial: Trial) -> Site:
    """Return the management network, once the agent is connected to its server."""
    site = site_of(trial.vm)
    if site is None:
        raise InfrastructureError(f"{trial.vm.name}: nobody plays the management network")
    site.connected()
    return site


def _public(trial: Trial, port: int) -> tuple[str, int]:
    return next(nic.address for nic in trial.vm.topology.nics if nic.role == "public"), port


def _uploading(agents: VmAgentPort, port: int, identifier: str, data: bytes) -> Upload:
    """Return an upload that was announced and has begun."""
    answer = agents.ask("expect_upload", _ANSWER, upload=identifier, size=len(data))
    if answer.get("result") is not True:
        raise InfrastructureError(f"the agent expects no upload: {answer}")
    upload = Upload(port, identifier, data)
    upload.start()
    return upload


def _copy_of(source: SlowSource, path: str) -> dict[str, str]:
    digest = hashlib.sha256(source.data).hexdigest()
    return {"from": f"http://{_SOURCE[0]}/a.qcow2", "url": _URL, "path": path, "sha256": digest}


def _require_whole(trial: Trial, what: str, folder: str, name: str, done: bool, source: SlowSource) -> None:
    """Require that a file is there as it was sent, or where its client was told of a failure, nothing of it."""
    look = f"cd {folder} 2>/dev/null || exit 0; find . -type f -exec sha256sum {{}} +"
    seen = trial.vm.guest.run(look, check=False, deadline=_ANSWER).stdout.strip()
    wanted = f"{hashlib.sha256(source.data).hexdigest()}  ./{name}" if done else ""
    trial.require(
        f"{what}.whole", "" if seen == wanted else f"{seen or 'nothing'} instead of {wanted or 'nothing'}"
    )


@pytest.mark.scenario(
    "S60-console-session-told",
    types=catalogue.load().types_that(have="console"),
    why="only a console proxy has consoles",
)
def test_an_open_console_lives_on_or_its_browser_is_told(lab: Lab, live_patch: Trial) -> None:
    """Somebody looks at a console all through the patch: it is shown on, or its browser is told that it is over."""
    if not lab.has_agent:
        pytest.skip(NO_AGENT)
    site = _connected(live_patch)
    port = live_patch.vm.endpoints[_public(live_patch, CONSOLE_PORT)]
    console = _opened(port)
    live_patch.require("console.open-before", "" if console.opened(_ANSWER) else console.told or "no screen")
    live_patch.patch(lab.new_bundle)
    live_patch.require("console.told", console.close())
    site.connected()
    problem = ""

    def opens() -> bool:
        nonlocal problem
        again = _opened(port)
        seen = again.opened(_ANSWER)
        problem = again.close() or ("" if seen else again.told or "no screen")
        return not problem

    try:
        wait.until(opens, "a console", _ANSWER, tick=1.0)
    except wait.DeadlineExceeded as error:
        problem = problem or str(error)
    live_patch.require("console.again", problem)


def _opened(port: int) -> OpenConsole:
    console = OpenConsole("127.0.0.1", port)
    console.start()
    return console
