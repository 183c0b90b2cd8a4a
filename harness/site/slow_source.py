"""A web server whose one file comes slowly: a copy from it is under way for as long as a scenario wants it to be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Bytes that come at a time, and seconds between two of them.
BLOCK, PAUSE = 16384, 0.5
# Seconds for the last half of the file when nobody is in a hurry.
_AT_MOST = 300.0


@dataclass
class SlowSource:
    """A web server with one file.

    Attributes:
        data: the file.
        half_sent: a client has half of it.
        hurry: the rest may come at once, now and for later clients.
        port: on loopback.
    """

    data: bytes
    half_sent: threading.Event = field(default_factory=threading.Event)
    hurry: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def blocks(self) -> Iterator[bytes]:
        """Yield the file: its first half at once, the other one slowly until somebody is in a hurry."""
        half = len(self.data) // 2
        yield self.data[:half]
        self.half_sent.set()
        waited = 0.0
        for begin in range(half, len(self.data), BLOCK):
            if waited < _AT_MOST and not self.hurry.is_set():
                self.hurry.wait(PAUSE)
                waited += PAUSE
            yield self.data[begin : begin + BLOCK]


@contextmanager
def serve(data: bytes) -> Iterator[SlowSource]:
    """Serve a file on loopback."""
    source = SlowSource(data)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(source.data)))
            self.end_headers()
            try:
                for block in source.blocks():
                    self.wfile.write(block)
            except OSError:
                self.close_connection = True  # the copy was given up

        def log_message(self, *_: object) -> None:
            """Say nothing: what became of the copy its client tells."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        source.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, name="slow source", daemon=True)
        thread.start()
        try:
            yield source
        finally:
            source.hurry.set()
            server.shutdown()
            thread.join()
