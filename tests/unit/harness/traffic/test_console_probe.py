"""What a browser says and understands: WebSocket frames and RFB messages, byte by byte, and a real VNC server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from bundle.errors import InfrastructureError
from harness.host import wait
from harness.site import vnc
from harness.traffic import ConsoleProbe, Traffic, rfb
from harness.traffic.probes import Wrong, connection
from harness.traffic.websocket import WebSocket
from tests.serving import listening

T = TypeVar("T")
# RFC 6143, 7.3.2: 640 x 480, sixteen bytes about pixels, and the name.
SCREEN = struct.pack(">HH16xI", 640, 480, 4) + b"name"
REASON = struct.pack(">I", 3) + b"why"


class Bytes:
    """A server whose whole side of the conversation is known beforehand."""

    def __init__(self, *parts: bytes) -> None:
        self.left = b"".join(parts)
        self.sent: list[bytes] = []

    async def read(self, count: int) -> bytes:
        if len(self.left) < count:
            raise EOFError
        data, self.left = self.left[:count], self.left[count:]
        return data

    def write(self, data: bytes) -> None:
        self.sent.append(data)


def greeted(*parts: bytes) -> tuple[rfb.Screen, Bytes]:
    server = Bytes(*parts)
    return asyncio.run(rfb.greet(server)), server


def test_a_viewer_greets_up_to_the_screen() -> None:
    screen, server = greeted(b"RFB 003.008\n", b"\x02\x02\x01", bytes(4), SCREEN)
    assert screen == rfb.Screen(640, 480, "name")
    assert server.sent == [b"RFB 003.008\n", b"\x01", b"\x01"]
    assert server.left == b""


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ((b"HTTP/1.1 200",), "no VNC server of version 3.8: b'HTTP/1.1 200'"),
        ((b"RFB 003.003\n",), "no VNC server of version 3.8"),
        ((rfb.VERSION, b"\x00", REASON), "the VNC server refuses: why"),
        ((rfb.VERSION, b"\x01\x02"), r"wants a password: it offers \[2\]"),
        ((rfb.VERSION, b"\x01\x01", b"\0\0\0\1", REASON), "the VNC server refuses: why"),
        (
            (rfb.VERSION, b"\x01\x01", bytes(4), bytes(20), b"\xff" * 4),
            "announces a text of 4294967295 bytes",
        ),
    ],
)
def test_a_server_that_shows_no_screen_is_told_by_its_reason(parts: tuple[bytes, ...], words: str) -> None:
    with pytest.raises(Wrong, match=words):
        greeted(*parts)


@pytest.mark.parametrize("length", range(1, 12 + 2 + 4 + 28))
def test_a_server_that_stops_halfway_shows_no_screen(length: int) -> None:
    whole = rfb.VERSION + b"\x01\x01" + bytes(4) + SCREEN
    with pytest.raises(EOFError):
        greeted(whole[:length])


def update(*rectangles: tuple[int, int, int]) -> bytes:
    """Return an update of rectangles: width, height, form; without their pixels for a form that is not raw."""
    rows = [
        struct.pack(">HHHHi", 0, 0, w, h, form) + bytes(4 * w * h * (not form)) for w, h, form in rectangles
    ]
    return struct.pack(">BxH", 0, len(rows)) + b"".join(rows)


def test_a_look_reads_the_update_that_it_has_asked_for_and_no_byte_more() -> None:
    server = Bytes(update((16, 16, 0), (64, 16, 0)), b"next")
    asyncio.run(rfb.look(server))
    assert server.sent == [struct.pack(">BBHHHH", 3, 0, 0, 0, 16, 16)]
    assert server.left == b"next"


@pytest.mark.parametrize(
    ("said", "words"),
    [(b"\x02\0\0\0", "kind 2 instead of"), (update((65535, 65535, 1)), "65535 x 65535 in form 1")],
)
def test_a_look_that_shows_nothing_is_told(said: bytes, words: str) -> None:
    with pytest.raises(Wrong, match=words):
        asyncio.run(rfb.look(Bytes(said)))


def accept_of(head: bytes) -> bytes:
    """Return the answer that accepts a request for a WebSocket."""
    (key,) = (row.split(b": ")[1] for row in head.split(b"\r\n") if row.startswith(b"Sec-WebSocket-Key"))
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: binary\r\nSec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


def head_of(served: socket.socket) -> bytes:
    seen = b""
    while not seen.endswith(b"\r\n\r\n"):
        seen += served.recv(1)
    return seen


def websocket(port: int, act: Callable[[WebSocket], Awaitable[T]]) -> T:
    async def open_and_act() -> T:
        async with asyncio.timeout(10), connection("127.0.0.1", port) as (reader, writer):
            return await act(await WebSocket.open(reader, writer, "127.0.0.1", "/websockify"))

    return asyncio.run(open_and_act())


def frames(*parts: bytes) -> Callable[[socket.socket], None]:
    """Return a server that accepts, sends frames, and waits for the other side to leave."""

    def serve(served: socket.socket) -> None:
        served.sendall(accept_of(head_of(served)) + b"".join(parts))
        while served.recv(4096):
            pass

    return serve


def test_what_is_read_may_be_of_several_frames() -> None:
    async def act(opened: WebSocket) -> tuple[bytes, bytes]:
        return await opened.read(3), await opened.read(300)

    long = bytes(300)
    with listening(
        frames(b"\x02\x01a", b"\x80\x01b", b"\x82\x7e" + struct.pack(">H", 301) + b"c" + long)
    ) as port:
        assert websocket(port, act) == (b"abc", long)


def test_a_frame_may_have_a_long_length() -> None:
    with listening(frames(b"\x82\x7f" + struct.pack(">Q", 70000) + bytes(70000))) as port:
        assert websocket(port, lambda opened: opened.read(70000)) == bytes(70000)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b"\x88\x00", "the server closed the WebSocket: no status rcvd"),
        (b"\x88\x02\x03\xf3", r"the server closed the WebSocket: internal error \(1011\)"),
        (b"\x88\x02\x0f\xa0", "the server closed the WebSocket: 4000"),
        (b"\x82\x81abcda", "the server breaks the rules of WebSocket: .*mask"),
        (b"\x83\x00", "the server breaks the rules of WebSocket: .*opcode"),
        (b"\xc2\x00", "the server breaks the rules of WebSocket: Reserved bit"),
        (b"\x82\x7f\xff" + b"\xff" * 7, "the server breaks the rules of WebSocket"),
        (b"\x81\x02hi", "what is no binary message: TextMessage"),
    ],
)
def test_a_server_that_breaks_the_rules_is_told_by_how(frame: bytes, words: str) -> None:
    with listening(frames(frame)) as port, pytest.raises(Wrong, match=words):
        websocket(port, lambda opened: opened.read(1))


def test_what_is_sent_is_masked_and_a_ping_is_answered() -> None:
    seen: list[tuple[int, bytes]] = []

    def serve(served: socket.socket) -> None:
        served.sendall(accept_of(head_of(served)) + b"\x89\x02hi")
        for _ in range(2):
            first, second = served.recv(2, socket.MSG_WAITALL)
            assert second & 0x80
            mask = served.recv(4, socket.MSG_WAITALL)
            data = served.recv(second & 0x7F, socket.MSG_WAITALL)
            seen.append((first, bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))))
        served.sendall(b"\x82\x02ok")

    async def act(opened: WebSocket) -> bytes:
        opened.write(b"RFB 003.008\n")
        return await opened.read(2)

    with listening(serve) as port:
        assert websocket(port, act) == b"ok"
    assert seen == [(0x82, b"RFB 003.008\n"), (0x8A, b"hi")]


def test_the_handshake_is_the_one_of_a_page_of_the_same_host() -> None:
    heads: list[bytes] = []

    def serve(served: socket.socket) -> None:
        heads.append(head_of(served))
        served.sendall(accept_of(heads[0]))

    async def act(opened: WebSocket) -> None:
        with pytest.raises(EOFError):
            await opened.read(1)

    with listening(serve) as port:
        websocket(port, act)
    lines = heads[0].decode().split("\r\n")
    assert lines[0] == "GET /websockify HTTP/1.1"
    assert {
        "Host: 127.0.0.1", "Origin: http://127.0.0.1", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: binary",
    } <= set(lines)  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "no WebSocket: status 403"),
        (
            b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            "Bad accept token",
        ),
        (b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "Bad accept token"),
        (b"HTTP/1.1 101 Yes\r\n\r\n", "the server breaks the rules of WebSocket"),
        (b"RFB 003.008\n\r\n\r\n", "the server breaks the rules of WebSocket"),
    ],
)
def test_a_web_server_that_opens_no_websocket_is_told_by_its_answer(answer: bytes, words: str) -> None:
    def serve(served: socket.socket) -> None:
        head_of(served)
        served.sendall(answer)

    with listening(serve) as port, pytest.raises(Wrong, match=words):
        websocket(port, lambda opened: opened.read(1))


def bridged(vnc_port: int) -> Callable[[socket.socket], None]:
    """Return a console proxy without any of its rules: each message goes to a VNC server, its answers come back."""

    def serve(served: socket.socket) -> None:
        served.sendall(accept_of(head_of(served)))
        with socket.create_connection(("127.0.0.1", vnc_port)) as screen:

            def back() -> None:
                with contextlib.suppress(OSError):
                    carry()

            def carry() -> None:
                while data := screen.recv(100):
                    served.sendall(bytes((0x82, len(data))) + data)

            threading.Thread(target=back, daemon=True).start()
            while head := served.recv(6, socket.MSG_WAITALL):
                data = served.recv(head[1] & 0x7F, socket.MSG_WAITALL)
                screen.sendall(bytes(byte ^ head[2 + place % 4] for place, byte in enumerate(data)))

    return serve


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[int]:
    with vnc.serve(tmp_path / "vnc.log") as port:
        yield port


def asked(port: int, screen: str) -> tuple[int, int, str]:
    """Return what a console probe sees: consoles opened and lost, and why."""
    with Traffic([ConsoleProbe("console", "127.0.0.1", port, screen, rate=20.0, timeout=5.0)]) as traffic:
        wait.until(lambda: traffic.recorder("console").result().sent >= 5, "five consoles", 10)
    (seen,) = traffic.results
    return seen.sent, seen.lost, seen.reason


def test_a_console_shows_the_screen_of_a_real_vnc_server(screen: int) -> None:
    with listening(bridged(screen)) as port:
        sent, lost, reason = asked(port, vnc.SCREEN)
    assert (lost, reason) == (0, "")
    assert sent >= 5


def test_another_screen_is_a_lost_console(screen: int) -> None:
    with listening(bridged(screen)) as port:
        sent, lost, reason = asked(port, "QEMU (another)")
    assert sent == lost
    assert reason == "Wrong: the console shows 'QEMU (sysvm-console)' instead of 'QEMU (another)'"


def test_a_console_without_a_vnc_server_behind_it_is_a_lost_one() -> None:
    with listening(frames(b"\x88\x00")) as port:
        sent, lost, reason = asked(port, vnc.SCREEN)
    assert (sent, reason) == (lost, "Wrong: the server closed the WebSocket: no status rcvd (1005)")


def test_a_vnc_server_ends_with_its_site(tmp_path: Path) -> None:
    with vnc.serve(tmp_path / "vnc.log") as port, socket.create_connection(("127.0.0.1", port)):
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_vnc_server_that_cannot_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emulator = tmp_path / "qemu"
    emulator.write_text("#!/bin/sh\necho no such machine >&2\nexit 1\n")
    emulator.chmod(0o755)
    monkeypatch.setattr(vnc, "EMULATOR", str(emulator))
    with pytest.raises(InfrastructureError, match=r"VNC server's QEMU has ended; its log is .*vnc\.log"):
        vnc.serve(tmp_path / "vnc.log").__enter__()
    assert "no such machine" in (tmp_path / "vnc.log").read_text()
