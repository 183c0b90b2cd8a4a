"""Clients in the middle of something: finished, told that it is over, or left in silence, which is what must not be."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from harness.site import slow_source
from harness.traffic import open_console, upload
from harness.traffic.open_console import OpenConsole
from harness.traffic.upload import Upload
from tests.serving import listening
from tests.unit.harness.traffic.test_console_probe import SCREEN, accept_of, head_of, update

GREETING = (b"RFB 003.008\n", b"\x01\x01", bytes(4), SCREEN)


def framed(data: bytes) -> bytes:
    length = bytes([len(data)]) if len(data) < 126 else b"\x7e" + len(data).to_bytes(2, "big")
    return b"\x82" + length + data


def screen(updates: int, *, then_silent: bool = False) -> object:
    """Return a server that shows its screen so often, and then ends or says nothing more."""

    def serve(served: socket.socket) -> None:
        served.sendall(accept_of(head_of(served)) + b"".join(map(framed, GREETING)))
        for _ in range(updates):
            served.sendall(framed(update((16, 16, 0))))
        while then_silent and served.recv(4096):
            pass

    return serve


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_console, "PAUSE", 0.01)
    monkeypatch.setattr(open_console, "PATIENCE", 0.5)
    monkeypatch.setattr(upload, "PATIENCE", 0.5)


def looked_at(port: int) -> OpenConsole:
    console = OpenConsole("127.0.0.1", port)
    console.start()
    return console


def test_a_console_that_ends_has_told_its_browser() -> None:
    with listening(screen(3)) as port:
        console = looked_at(port)
        assert console.opened(5)
        console.join(5)
        assert console.close() == ""
    assert console.told
    assert console.looks <= 3


def test_a_console_that_stands_still_is_found() -> None:
    with listening(screen(2, then_silent=True)) as port:
        console = looked_at(port)
        console.join(5)
        assert console.close() == "the screen stands still since its 2. look, and nobody says why"


def test_a_console_that_is_never_shown_was_not_opened() -> None:
    with listening(
        lambda served: served.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    ) as port:
        console = looked_at(port)
        assert not console.opened(5)
        assert console.told == "no WebSocket: status 403"


def test_an_upload_whose_connection_ends_was_told() -> None:
    with listening(lambda served: served.recv(1)) as port:
        sent = Upload(port, "vol-1", b"data")
        sent.start()
        assert sent.finish() == ""
    assert sent.told
    assert sent.status == 0


def test_an_upload_that_is_told_nothing_is_found() -> None:
    with listening(lambda served: time.sleep(2)) as port:
        sent = Upload(port, "vol-1", b"data")
        sent.start()
        assert sent.finish() == "the browser is told nothing for 0.5 s"


def test_a_slow_source_keeps_half_until_somebody_is_in_a_hurry() -> None:
    data = bytes(range(256)) * 256
    with slow_source.serve(data) as source:
        with socket.create_connection(("127.0.0.1", source.port), timeout=10) as client:
            client.sendall(b"GET /a HTTP/1.0\r\n\r\n")
            assert source.half_sent.wait(5)
            seen = b""
            threading.Timer(0.1, source.hurry.set).start()
            began = time.monotonic()
            with contextlib.suppress(ConnectionError):
                while block := client.recv(65536):
                    seen += block
        assert seen.partition(b"\r\n\r\n")[2] == data
        assert time.monotonic() - began < 5
