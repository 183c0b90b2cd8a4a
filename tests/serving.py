"""Small servers on loopback, for what asks them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def listening(
    serve: Callable[[socket.socket], object], listener: socket.socket | None = None
) -> Iterator[int]:
    """Serve each connection in a thread of its own, and close it then; yields the port.

    Args:
        serve: is given a connection.
        listener: where from; any free port of loopback without one.
    """
    with listener or socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    served, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=handle, args=(served,), daemon=True).start()

        def handle(served: socket.socket) -> None:
            with served, contextlib.suppress(OSError):  # a client that has seen enough resets the connection
                serve(served)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)  # closing alone does not wake who accepts
