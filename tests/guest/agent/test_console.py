"""The console proxy: browsers reach VNC servers through WebSockets, and nobody else does, nor for ever."""

import base64
import hashlib
import os
import time

import pytest

from tests.guest.agent.server import eventually
from tests.serving import listening

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@pytest.fixture
def start(agent, authority, management):
    """Return a function that starts a console proxy with limits of its own; registered, when it returns."""

    def begin(**limits):
        path = agent.conf / "agent.properties"
        text = path.read_text().replace(
            "resource=org.apache.cloudstack.storage.resource.NfsSecondaryStorageResource", ""
        )
        text += "resource=com.cloud.agent.resource.consoleproxy.ConsoleProxyResource\n"
        path.write_text(text + "".join(f"limit.{key}={value}\n" for key, value in limits.items()))
        agent.install(authority.answer(agent.request()), authority.certificate())
        agent.start()
        management.next(command="startup")
        return agent

    return begin


@pytest.fixture
def console(start):
    return start()


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

    def __init__(self, network, token, *more):
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
            *more,
        ]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.file = self.socket.makefile("rb")
        self.head = []
        try:
            while line := self.file.readline().strip():
                self.head.append(line.decode())
        except ConnectionError:
            self.close()
            raise

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


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://x", 101),
        ("https://X:443", 101),
        ("https://evil.example", 403),
        ("https://evil.example/x", 403),
        ("http://x.evil.example", 403),
        ("null", 403),
        ("file://x", 403),
    ],
)
def test_only_a_page_of_the_same_host_opens_a_console(console, management, vnc, origin, status):
    management.tokens["good"] = {"allowed": True, "host": "127.0.0.1", "port": vnc}
    browser = Browser(console.network, "good", f"Origin: {origin}")
    assert browser.head[0].split()[1] == str(status)
    browser.close()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET //[ HTTP/1.1\r\n\r\n", 404),
        (b"GET /websockify?token=%ff%00&&=&[ HTTP/1.1\r\n\r\n", 400),
        (b"GET http://[/websockify HTTP/1.1\r\n\r\n", 400),
        (b"POST /websockify HTTP/1.1\r\n\r\n", 405),
        (b"\x00\xff\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /" + b"a" * 40000 + b" HTTP/1.1\r\n\r\n", 431),
    ],
)
def test_a_request_that_makes_no_sense_is_answered_by_its_status(console, management, request_, status):
    with console.network.connect(8080) as connection:
        connection.sendall(request_)
        assert connection.recv(64).startswith(f"HTTP/1.1 {status} ".encode())
    assert "Traceback" not in console.log()
    assert management.ask("check_health")["result"] is True


def test_a_request_that_does_not_come_to_its_end_is_given_up(start):
    agent = start(request=1)
    with agent.network.connect(8080) as connection:
        connection.sendall(b"GET /websockify HTTP/1.1\r\n")
        assert connection.recv(64).startswith(b"HTTP/1.1 408 ")
        connection.settimeout(10)
        while connection.recv(4096):
            pass


def test_a_console_that_nobody_uses_is_closed_and_one_in_use_is_not(start, management, vnc):
    agent = start(console_idle=2)
    management.tokens["good"] = {"allowed": True, "host": "127.0.0.1", "port": vnc}
    idle, used = Browser(agent.network, "good"), Browser(agent.network, "good")
    assert idle.receive() == used.receive() == (2, b"RFB 003.008\n")
    for _ in range(6):
        time.sleep(0.5)
        used.send(2, b"key")
        assert used.receive() == (2, b"key")
    assert idle.receive() == (8, b"\x03\xe9idle")
    assert idle.file.read() == b""
    assert management.ask("check_health")["sessions"] == 1
    idle.close()
    used.close()
    assert eventually(lambda: management.ask("check_health")["sessions"] == 0)


def test_no_more_consoles_are_open_at_once_than_the_limit_says(start, management, vnc):
    agent = start(consoles=2)
    management.tokens["good"] = {"allowed": True, "host": "127.0.0.1", "port": vnc}
    first, second = Browser(agent.network, "good"), Browser(agent.network, "good")
    third = Browser(agent.network, "good")
    assert [browser.head[0].split()[1] for browser in (first, second, third)] == ["101", "101", "503"]
    first.close()
    third.close()

    def free():
        browser = Browser(agent.network, "good")
        browser.close()
        return browser.head[0].split()[1] == "101"

    assert eventually(free)
    second.close()


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"\x82\x01a", b"not masked"),
        (b"\x82\xff" + b"\x7f" * 8, b"longer than 262144"),
        (b"\x83\x80abcd", b"begins with 0x83"),
        (b"\xc2\x80abcd", b"begins with 0xc2"),
        (b"\x89\xfe\x01\x00abcd", b"control frame"),
    ],
)
def test_a_browser_that_breaks_the_rules_is_told_so_and_left(console, management, vnc, frame, reason):
    management.tokens["good"] = {"allowed": True, "host": "127.0.0.1", "port": vnc}
    browser = Browser(console.network, "good")
    assert browser.receive() == (2, b"RFB 003.008\n")
    browser.socket.sendall(frame)
    opcode, data = browser.receive()
    assert (opcode, data[:2]) == (8, b"\x03\xea")
    assert reason in data
    browser.close()
    assert "Traceback" not in console.log()


@pytest.mark.parametrize(
    "answer", [{"host": "127.0.0.1"}, {"host": "127.0.0.1", "port": "x"}, {"port": 1 << 40}]
)
def test_an_answer_that_names_no_vnc_server_is_said_so(console, management, answer):
    management.tokens["good"] = {"allowed": True, **answer}
    browser = Browser(console.network, "good")
    assert browser.head[0] == "HTTP/1.1 502 Bad Gateway"
    browser.close()


def test_who_is_turned_away_keeps_nobody_else_out(start, management, vnc):
    agent = start(consoles=2)
    management.tokens["good"] = {"allowed": True, "host": "127.0.0.1", "port": vnc}
    used = Browser(agent.network, "good")
    silent = [agent.network.connect(8080) for _ in range(60)]
    assert used.receive() == (2, b"RFB 003.008\n")
    used.send(2, b"key")
    assert used.receive() == (2, b"key")
    silent[0].close()  # the one that was let in

    def free():
        try:
            browser = Browser(agent.network, "good")
        except ConnectionError:  # turned away without a word, as there are too many to tell
            return False
        browser.close()
        return bool(browser.head) and browser.head[0].split()[1] == "101"

    assert eventually(free, 2.5)
    for connection in [used, *silent]:
        connection.close()
