"""Small servers on loopback, for what asks them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def listening(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """Serve each connection in a thread of its own, and close it then; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    served, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=handle, args=(served,), daemon=True).start()

        def handle(served: socket.socket) -> None:
            with served, contextlib.suppress(OSError):  # a client that has seen enough resets the connection
                serve(served)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # closing alone does not wake who accepts
