"""Port 8250: agents with a certificate of the cloud's CA are let in, counted and kept alive; nobody else is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bundle.errors import CheckFailed, InfrastructureError
from bundle.paths import payload_root
from harness.guest.protocols import Guest
from harness.host.wait import DeadlineExceeded
from harness.observe import identity
from harness.site.authority import Authority, CertifiedKey
from harness.site.vm_agent_port import VmAgentPort


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def port(authority: Authority, tmp_path: Path) -> Iterator[VmAgentPort]:
    with VmAgentPort(authority.server_context(tmp_path), ping_interval=0.05) as made:
        yield made


def client_context(folder: Path, authority: Authority, own: CertifiedKey | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=authority.identity.pem)
    if own is not None:
        key = own.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / "own.pem").write_text(own.pem + key.decode())
        context.load_cert_chain(folder / "own.pem")
    return context


def talk(port: int, context: ssl.SSLContext, words: bytes) -> bytes:
    """Say something, and return what comes back until the other side hangs up."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain) as tls,
    ):
        tls.sendall(words)
        try:
            return tls.recv(4096)
        except ConnectionError:
            return b""


class Agent:
    """A small agent that registers, and pings until it is told to leave."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.port, self.context, self.leave = port, context, threading.Event()
        self.answers: list[bytes] = []
        self.thread = threading.Thread(target=lambda: asyncio.run(self.talk()), daemon=True)

    async def talk(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.context)
        words = iter([b'{"command":"startup","guid":"s-1-VM","resource":"Nfs","id":1}'])
        while not self.leave.is_set():
            frame = next(words, b'{"command":"ping","id":2}')
            writer.write(len(frame).to_bytes(4, "big") + frame)
            await writer.drain()
            size = int.from_bytes(await reader.readexactly(4), "big")
            self.answers.append(await reader.readexactly(size))
            await asyncio.sleep(0.02)
        writer.transport.abort()

    def __enter__(self) -> Agent:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave.set()
        self.thread.join()


def test_an_agent_registers_and_is_seen_until_it_leaves(
    port: VmAgentPort, authority: Authority, tmp_path: Path
) -> None:
    own = authority.issue("s-1-VM")
    pings = threading.Event()
    port.on_ping = lambda guid: pings.set() if guid == "s-1-VM" else None
    with Agent(port.port, client_context(tmp_path, authority, own)) as agent:
        session = port.wait_for("s-1-VM", deadline=10)
        assert (session.fingerprint, session.resource) == (own.fingerprint, "Nfs")
        assert pings.wait(10)
    assert b'"accepted": true' in agent.answers[0]
    wait_until(lambda: port.connected("s-1-VM") is None)
    assert port.sessions[0].ended is not None


def test_a_port_that_closes_on_an_agent_has_nothing_to_complain_of(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = client_context(tmp_path, authority, authority.issue("s-1-VM"))
    frame = b'{"command":"startup","guid":"s-1-VM","resource":"Nfs","id":1}'
    context = authority.server_context(tmp_path)
    with contextlib.ExitStack() as client, VmAgentPort(context, ping_interval=0.05) as made:
        plain = client.enter_context(socket.create_connection(("127.0.0.1", made.port), timeout=10))
        tls = client.enter_context(own.wrap_socket(plain))
        tls.sendall(len(frame).to_bytes(4, "big") + frame)
        made.wait_for("s-1-VM", deadline=10)
    assert caplog.records == []


def test_a_reconnection_is_told_from_the_connection_before(
    port: VmAgentPort, authority: Authority, tmp_path: Path
) -> None:
    context = client_context(tmp_path, authority, authority.issue("s-1-VM"))
    with Agent(port.port, context):
        first = port.wait_for("s-1-VM", deadline=10)
    wait_until(lambda: port.connected("s-1-VM") is None)
    ended = port.sessions[0].ended
    assert ended is not None
    with Agent(port.port, context):
        second = port.wait_for("s-1-VM", deadline=10, since=ended)
    assert second.began > first.began
    assert second.fingerprint == first.fingerprint


@pytest.mark.parametrize("who", ["without a certificate", "of another CA"])
def test_a_stranger_is_no_session(port: VmAgentPort, authority: Authority, tmp_path: Path, who: str) -> None:
    own = Authority().issue("s-1-VM") if who == "of another CA" else None

    context = client_context(tmp_path, authority, own)
    with contextlib.suppress(
        ssl.SSLError, ConnectionError
    ):  # TLS 1.3 may tell the client only at its first read
        assert talk(port.port, context, b"hello") == b""
    assert port.sessions == ()


def test_an_agent_that_speaks_another_protocol_still_counts_as_a_handshake(
    port: VmAgentPort, authority: Authority, tmp_path: Path
) -> None:
    own = authority.issue("s-1-VM")

    assert talk(port.port, client_context(tmp_path, authority, own), b"\xff" * 16) == b""
    wait_until(lambda: len(port.sessions) == 1 and port.sessions[0].ended is not None)
    assert port.sessions[0].fingerprint == own.fingerprint


def test_an_agent_that_does_not_come_is_named(port: VmAgentPort) -> None:
    with pytest.raises(DeadlineExceeded, match="a connection of the agent s-9-VM"):
        port.wait_for("s-9-VM", deadline=0.05)


class KeyGuest:
    """Stands in for the two key programs of a guest: makes a request, and takes the certificate."""

    name = "s-1-VM"

    def __init__(self, request: str = "") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.request = request
        self.imported = ""

    def run(self, command: str, **_: object) -> object:
        class Done:
            status, stderr, seconds = 0, "", 0.1
            stdout = ""

        if "keystore-setup" in command:
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "s-1-VM")])
            builder = x509.CertificateSigningRequestBuilder().subject_name(name)
            pem = builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
            Done.stdout = self.request or f"some noise\n{pem}"
        else:
            self.imported = command
        return Done()


def test_an_agent_gets_the_certificate_that_it_asked_for(authority: Authority) -> None:
    guest = KeyGuest()
    fingerprint = authority.provision(guest, "secret")
    own = guest.imported.split("'")[1].replace("^", "\n").replace("~", " ")
    certificate = x509.load_pem_x509_certificate(own.encode())
    assert certificate.fingerprint(hashes.SHA256()).hex() == fingerprint
    assert certificate.public_key() == guest.key.public_key()
    certificate.verify_directly_issued_by(authority.identity.certificate)


def test_a_guest_that_makes_no_request_is_named(authority: Authority) -> None:
    with pytest.raises(CheckFailed, match="s-1-VM: keystore-setup made no signing request"):
        authority.provision(KeyGuest("openssl: command not found"), "secret")


@pytest.mark.parametrize(
    ("once", "words"),
    [
        (True, "conf/agent.properties {0}/cloud.jks ssh"),
        (False, "conf/agent.properties secret {0}/cloud.jks ssh"),
    ],
)
def test_servers_since_4_17_say_the_passphrase_to_both_programs(
    authority: Authority, once: bool, words: str
) -> None:
    guest = KeyGuest()
    authority.provision(guest, "secret", once=once)
    assert words.format("/usr/local/cloud/systemvm/conf") in guest.imported


@pytest.mark.parametrize("once", [True, False])
def test_the_key_programs_of_the_payload_take_and_give_what_the_server_does(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local_guest: Guest, once: bool
) -> None:
    programs = payload_root() / "agent" / "scripts" / "util"
    monkeypatch.setattr("harness.site.authority._AGENT", str(tmp_path))
    monkeypatch.setattr("harness.site.authority._PROGRAMS", f"bash {programs}")
    (tmp_path / "conf").mkdir()
    fingerprint = authority.provision(local_guest, "secret", once=once)
    store = (tmp_path / "conf" / "cloud.jks").read_bytes()
    entries = identity.store_entries(store, "secret")
    assert set(entries.values()) == {fingerprint, authority.identity.fingerprint}
    assert "keystore.passphrase=secret" in (tmp_path / "conf" / "agent.properties").read_text()


def wait_until(what: Callable[[], bool]) -> None:
    tick, tries = threading.Event(), 500
    while not what():
        tries -= 1
        assert tries, "it did not happen in time"
        tick.wait(0.02)


def test_an_agent_is_asked_and_its_answer_comes_back(
    port: VmAgentPort, authority: Authority, tmp_path: Path
) -> None:
    with pytest.raises(InfrastructureError, match="no agent is connected that could be asked for 'mount'"):
        port.ask("mount", 1, url="nfs://10.0.0.6/x")
    context = client_context(tmp_path, authority, authority.issue("s-1-VM"))
    with (
        socket.create_connection(("127.0.0.1", port.port), timeout=10) as plain,
        context.wrap_socket(plain) as tls,
    ):

        def answer() -> None:
            while frame := receive(tls):
                if frame.get("command") == "mount":
                    send(tls, {"answer": "mount", "id": frame["id"], "path": frame["url"]})

        send(tls, {"command": "startup", "guid": "s-1-VM", "resource": "Nfs", "id": 1})
        port.wait_for("s-1-VM", deadline=10)
        thread = threading.Thread(target=answer)
        thread.start()
        assert port.ask("mount", 10, url="nfs://10.0.0.6/x")["path"] == "nfs://10.0.0.6/x"
        with pytest.raises(InfrastructureError, match=r"did not answer 'silence' within 0.1 s"):
            port.ask("silence", 0.1)
        tls.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def test_who_asks_an_agent_that_goes_away_is_told_at_once(
    port: VmAgentPort, authority: Authority, tmp_path: Path
) -> None:
    context = client_context(tmp_path, authority, authority.issue("s-1-VM"))
    with (
        socket.create_connection(("127.0.0.1", port.port), timeout=10) as plain,
        context.wrap_socket(plain) as tls,
    ):
        send(tls, {"command": "startup", "guid": "s-1-VM", "resource": "Nfs", "id": 1})
        port.wait_for("s-1-VM", deadline=10)
        leaving = threading.Timer(0.1, tls.shutdown, [socket.SHUT_RDWR])
        leaving.start()
        with pytest.raises(ConnectionError, match="went away before it answered 'copy'"):
            port.ask("copy", 30)
        leaving.join()


def send(tls: ssl.SSLSocket, frame: dict[str, object]) -> None:
    data = json.dumps(frame).encode()
    tls.sendall(len(data).to_bytes(4, "big") + data)


def receive(tls: ssl.SSLSocket) -> dict[str, object]:
    """Return the next frame, or nothing at the end."""
    data = b""
    try:
        while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
            part = tls.recv(
                4 + int.from_bytes(data[:4], "big") - len(data) if len(data) >= 4 else 4 - len(data)
            )
            if not part:
                return {}
            data += part
    except OSError:
        return {}
    return dict(json.loads(data[4:]))


def test_a_trust_store_holds_the_authority_alone():
    authority = Authority()
    entries = identity.store_entries(authority.trust_store("vmops.com"), "vmops.com")
    assert entries == {"cloud root ca": authority.identity.fingerprint}
