"""Connections to a real haproxy while its VM is patched: a reload refuses none, a restart does."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, replace

import pytest

from harness.host import wait
from tests.guest.livepatch import bundles
from tests.guest.livepatch.folder_vm import FolderVm
from tests.guest.livepatch.vm_factory import LEGACY, VmFactory

CONFIGURATION = """defaults
    mode http
    timeout connect 2s
    timeout client 2s
    timeout server 2s
frontend tenant
    bind 127.0.0.1:{port}
    http-request return status 200 content-type text/plain string tenant
"""


@dataclass
class Tally:
    """What the connections came to."""

    answered: int = 0
    failed: int = 0


def _ask(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(4096), b"")).endswith(b"tenant")
    return False


def _ask_until(end: threading.Event, port: int, tally: Tally) -> None:
    while not end.is_set():
        if _ask(port):
            tally.answered += 1
        else:
            tally.failed += 1


def _give_haproxy(lab: FolderVm) -> int:
    """Let the unit of haproxy run the real one, on a free port of the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    (lab.root / "run/lab/haproxy.cfg").write_text(CONFIGURATION.format(port=port))
    unit = lab.unit("haproxy")
    (unit / "run").write_text("exec /usr/sbin/haproxy -W -f /run/lab/haproxy.cfg\n")
    (unit / "state").write_text("inactive\n")
    (unit / "pid").write_text("0\n")
    return port


def _patch_under_load(lab: FolderVm, bundle: bundles.Bundle) -> Tally:
    port = _give_haproxy(lab)
    lab.land(bundle)
    process = lab.start(
        "-c",
        "systemctl start haproxy; until [ -e /run/lab/asked ]; do sleep 0.01; done;"
        "bash /var/cache/cloud/patch-sysvms.sh >/run/lab/out 2>&1; echo $? >/run/lab/status;"
        "until [ -e /run/lab/end ]; do sleep 0.01; done",
    )
    tally, end = Tally(), threading.Event()
    client = threading.Thread(target=_ask_until, args=(end, port, tally))
    try:
        wait.until(lambda: _ask(port), "haproxy to answer", 20, tick=0.01)
        client.start()
        (lab.root / "run/lab/asked").touch()
        wait.until((lab.root / "run/lab/status").exists, "the patch to end", 60, tick=0.01)
        before = tally.answered
        wait.until(lambda: tally.answered > before, "an answer after the patch", 20, tick=0.01)
    finally:
        end.set()
        if client.ident is not None:
            client.join()  # its last question is answered before haproxy ends with the lab
        for name in ("asked", "end"):
            (lab.root / "run/lab" / name).touch()
        process.communicate(timeout=60)
    assert lab.read("run/lab/status") == "0\n", lab.read("run/lab/out")
    return tally


@pytest.mark.parametrize("restart", ["graceful", "always"])
def test_only_a_restart_refuses_connections(stage, record_property, restart):
    with stage.clone("ilbvm") as lab:
        tally = _patch_under_load(lab, bundles.make(replace(bundles.new_content(), restart=restart)))
    record_property(
        "line",
        f"haproxy, {restart}: {tally.failed} of {tally.failed + tally.answered} connections failed in a patch",
    )
    assert tally.answered > 20
    assert (tally.failed == 0) is (restart == "graceful")


def test_the_rival_does_not_even_renew_the_balancer(stage):
    """An internal load balancer is none of the types that it restarts."""
    with stage.clone("ilbvm") as lab:
        _patch_under_load(lab, VmFactory(stage, LEGACY).new())
        assert "reload" not in " ".join(lab.systemctl_log())
