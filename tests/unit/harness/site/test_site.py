"""The management network of an agent VM: what leads there, who answers, and how an agent's absence is measured."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle.errors import InfrastructureError
from harness.site import relay, splice
from harness.site.authority import Authority
from harness.site.site import Site
from harness.site.vm_agent_port import VmAgentPort
from harness.traffic.measurement import Recorder
from harness.vm.cables import HostForward
from harness.vm.loopback import UdpCable
from tests.unit.harness.site.test_vm_agent_port import Agent, client_context, wait_until


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


class SiteWithoutNetwork(Site):
    """A site whose network is loopback: everything but QEMU is the real thing."""

    def __enter__(self) -> SiteWithoutNetwork:
        self._open.enter_context(self.agents)
        return self


@pytest.fixture
def site(authority: Authority, tmp_path: Path) -> Iterator[Site]:
    with SiteWithoutNetwork(authority, UdpCable(1, 2), "10.0.0.0/24", "10.0.0.1", tmp_path / "log") as made:
        yield made


def test_an_authority_is_the_same_after_it_was_saved(authority: Authority, tmp_path: Path) -> None:
    authority.save(tmp_path / "authority.pem")
    loaded = Authority.load(tmp_path / "authority.pem")
    assert loaded.identity.fingerprint == authority.identity.fingerprint
    assert (tmp_path / "authority.pem").stat().st_mode & 0o777 == 0o600
    # What the loaded one signs is let in where the first one is trusted.
    with VmAgentPort(authority.server_context(tmp_path)) as port:
        own = loaded.issue("s-1-VM")
        with Agent(port.port, client_context(tmp_path, loaded, own)):
            assert port.wait_for("s-1-VM", 10).fingerprint == own.fingerprint


def test_the_absence_of_an_agent_is_measured_from_session_to_session(
    site: Site, authority: Authority, tmp_path: Path
) -> None:
    context = client_context(tmp_path, authority, authority.issue("s-1-VM"))
    with Agent(site.agents.port, context):
        before = site.connected(10)
        assert site.link_since(before).away == 0.0
    wait_until(lambda: site.agents.latest is None)
    left = time.monotonic()
    threading.Event().wait(0.3)
    with Agent(site.agents.port, context):
        link = site.link_since(before, limit=10)
        took = time.monotonic() - left
    assert link.after == link.before == before.fingerprint
    assert 0.25 < link.away <= took + 0.2


def test_an_agent_that_does_not_come_back_has_no_certificate_to_show(
    site: Site, authority: Authority, tmp_path: Path
) -> None:
    with Agent(site.agents.port, client_context(tmp_path, authority, authority.issue("s-1-VM"))):
        before = site.connected(10)
    wait_until(lambda: site.agents.latest is None)
    link = site.link_since(before, limit=0.1)
    assert (link.after, link.away, link.limit) == ("", 0.1, 0.1)


def test_signs_of_life_are_answers_of_a_probe(site: Site, authority: Authority, tmp_path: Path) -> None:
    recorder = Recorder("agent", 0.2)
    with (
        site.followed(recorder),
        Agent(site.agents.port, client_context(tmp_path, authority, authority.issue("s-1-VM"))),
    ):
        wait_until(lambda: recorder.result().sent > 3)
    assert recorder.result().lost == 0
    assert site.agents.on_ping is None


def test_a_browsers_token_leads_to_the_vnc_server(authority: Authority, tmp_path: Path) -> None:
    with (
        VmAgentPort(authority.server_context(tmp_path), console=("10.0.0.5", 5900)) as port,
        socket.create_connection(("127.0.0.1", port.port), timeout=10) as plain,
        client_context(tmp_path, authority, authority.issue("v-2-VM")).wrap_socket(plain) as tls,
    ):
        frame = b'{"command":"console_access","token":"any","id":7}'
        tls.sendall(len(frame).to_bytes(4, "big") + frame)
        answer = json.loads(tls.recv(4096)[4:])
    assert answer == {
        "allowed": True, "host": "10.0.0.5", "port": 5900, "answer": "console_access", "id": 7,
    }  # fmt: skip


def test_the_splice_carries_both_ways_and_passes_the_end_on() -> None:
    inside, guest = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as server, inside, guest:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", splice.__file__, str(server.getsockname()[1])], stdin=inside.fileno()
        )
        inside.close()
        server.settimeout(10)
        outside, _ = server.accept()
        with outside:
            guest.settimeout(10)
            outside.sendall(b"hello")
            assert guest.recv(64) == b"hello"
            guest.sendall(b"x")
            guest.shutdown(socket.SHUT_WR)
            assert outside.recv(64) == b"x"
            assert outside.recv(64) == b""
            outside.sendall(b"bye")
            outside.shutdown(socket.SHUT_WR)
            assert guest.recv(64) == b"bye"
            assert guest.recv(64) == b""
        assert process.wait(10) == 0


def test_the_splice_ends_when_nobody_listens() -> None:
    inside, guest = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with guest:
        done = subprocess.run(
            [sys.executable, "-I", "-S", splice.__file__, str(port)],
            stdin=inside.fileno(),
            check=True,
            timeout=10,
        )
        inside.close()
        assert done.returncode == 0
        assert guest.recv(64) == b""


def test_a_guest_reaches_the_forwarded_addresses_and_nothing_else() -> None:
    forward = HostForward(20001, "10.0.0.5", 8250)
    made = relay.command(UdpCable(20002, 20003), "10.0.0.0/24", "10.0.0.1", [forward])
    (network,) = [word for word in made if word.startswith("user,")]
    assert "restrict=on" in network
    assert "guestfwd=tcp:10.0.0.5:8250-cmd:" in network
    assert network.endswith(f"{splice.__file__} 20001")
    assert any("udp=127.0.0.1:20003,localaddr=127.0.0.1:20002" in word for word in made)


def test_a_network_that_cannot_start_is_named_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = tmp_path / "qemu"
    emulator.write_text("#!/bin/sh\necho no such machine >&2\nexit 1\n")
    emulator.chmod(0o755)
    monkeypatch.setattr(relay, "EMULATOR", str(emulator))
    network = relay.run(UdpCable(20002, 20003), "10.0.0.0/24", "10.0.0.1", [], tmp_path / "log")
    with (
        network as made,
        pytest.raises(InfrastructureError, match=r"has ended; it said: no such machine"),
    ):
        wait_until(lambda: bool(made.require()))


def test_a_network_without_its_emulator_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "EMULATOR", "/nonexistent/qemu")
    network = relay.run(UdpCable(20002, 20003), "10.0.0.0/24", "10.0.0.1", [], tmp_path / "log")
    with pytest.raises(InfrastructureError, match="qemu is not installed"), network:
        pass
