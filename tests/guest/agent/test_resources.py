"""What the two types of agents do: consoles through WebSockets, uploads into files."""

import base64
import hashlib
import os

import pytest

from tests.serving import listening

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@pytest.fixture
def console(agent, authority, management):
    """A console proxy, registered; returns the agent."""
    path = agent.conf / "agent.properties"
    text = path.read_text().replace(
        "resource=org.apache.cloudstack.storage.resource.NfsSecondaryStorageResource", ""
    )
    path.write_text(text + "resource=com.cloud.agent.resource.consoleproxy.ConsoleProxyResource\n")
    agent.install(authority.answer(agent.request()), authority.certificate())
    agent.start()
    management.next(command="startup")
    return agent


@pytest.fixture
def vnc(network):
    """A server that greets like VNC and then echoes; returns its port."""

    def serve(connection):
        connection.sendall(b"RFB 003.008\n")
        while data := connection.recv(65536):
            connection.sendall(data)

    with listening(serve, network.listen()) as port:
        yield port


class Browser:
    """The client's side of a WebSocket."""

    def __init__(self, network, token):
        self.key = base64.b64encode(os.urandom(16)).decode()
        self.socket = network.connect(8080)
        lines = [
            f"GET /websockify?token={token} HTTP/1.1",
            "Host: x",
            "Upgrade: websocket",
            "Connection: Upgrade",
        ]
        lines += [
            f"Sec-WebSocket-Key: {self.key}",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: binary",
        ]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.file = self.socket.makefile("rb")
        self.head = []
        while line := self.file.readline().strip():
            self.head.append(line.decode())

    def send(self, opcode, data):
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
        length = (
            bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0xFE]) + len(data).to_bytes(2, "big")
        )
        self.socket.sendall(bytes([0x80 | opcode]) + length + mask + masked)

    def receive(self):
        first, second = self.file.read(2)
        length = int.from_bytes(self.file.read(2), "big") if second == 126 else second
        return first & 0x0F, self.file.read(length)

    def receive_bytes(self, count):
        data = b""
        while len(data) < count:
            data += self.receive()[1]
        return data

    def close(self):
        self.file.close()
        self.socket.close()


def test_a_browser_with_a_good_token_reaches_the_vnc_server(console, management, vnc):
    management.tokens["good"] = {"allowed": True, "host": "127.0.0.1", "port": vnc}
    browser = Browser(console.network, "good")
    expected = base64.b64encode(hashlib.sha1((browser.key + GUID).encode()).digest()).decode()
    assert browser.head[0] == "HTTP/1.1 101 Switching Protocols"
    assert f"Sec-WebSocket-Accept: {expected}" in browser.head
    assert browser.receive() == (2, b"RFB 003.008\n")
    data = os.urandom(5000)
    browser.send(2, data)
    assert browser.receive_bytes(len(data)) == data
    browser.send(9, b"are you there")
    assert browser.receive() == (10, b"are you there")
    assert management.ask("check_health")["sessions"] == 1
    browser.send(8, b"\x03\xe8")
    assert browser.receive() == (8, b"\x03\xe8")
    browser.close()


def test_a_browser_with_a_bad_token_is_refused(console):
    browser = Browser(console.network, "bad")
    assert browser.head[0] == "HTTP/1.1 403 Forbidden"
    browser.close()


def test_a_vnc_server_that_is_away_is_said_so(console, management):
    management.tokens["good"] = {"allowed": True, "host": "127.0.0.1", "port": 1}
    browser = Browser(console.network, "good")
    assert browser.head[0] == "HTTP/1.1 502 Bad Gateway"
    browser.close()


def test_what_is_no_websocket_is_refused(console):
    with console.network.connect(8080) as connection:
        connection.sendall(b"GET /websockify HTTP/1.1\r\n\r\n")
        assert connection.recv(64).startswith(b"HTTP/1.1 400 ")


def upload(agent, identifier, data):
    """Send an upload and return the HTTP status."""
    with agent.network.connect(8210) as connection:
        head = f"POST /upload/{identifier} HTTP/1.1\r\nContent-Length: {len(data)}\r\n\r\n"
        connection.sendall(head.encode() + data)
        return int(connection.recv(64).split()[1])


def test_an_announced_upload_is_taken_once_and_an_unknown_one_is_not(running, management):
    management.next(command="startup")
    assert upload(running, "tmpl-1", b"image") == 403
    assert management.ask("expect_upload", upload="tmpl-1", size=5)["result"] is True
    assert upload(running, "tmpl-1", b"image that is too long") == 411
    assert upload(running, "tmpl-1", b"image") == 201
    assert running.inside("/mnt/SecStorage/upload/tmpl-1").read_bytes() == b"image"
    assert upload(running, "tmpl-1", b"image") == 403


def test_an_upload_cannot_leave_its_folder(running, management):
    management.next(command="startup")
    answer = management.ask("expect_upload", upload="../../etc/passwd", size=1)
    assert answer["result"] is False


def test_a_share_that_cannot_be_mounted_is_reported(running, management):
    management.next(command="startup")
    answer = management.ask("mount", url="http://127.0.0.1/x")
    assert answer["result"] is False
    assert "nfs://host/path" in answer["details"]
