"""The control port of a tenant guest: many questions at once over one virtio-serial port, and reports in between."""

from __future__ import annotations

import base64
import contextlib
import itertools
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from bundle.archive.limits import AnswerLimits
from bundle.errors import InfrastructureError
from harness.guest.connection import GuestError

# Status and output, still encoded; None once the port is closed.
_Answer = tuple[int, str] | None


class Control:
    """One connection to a tenant guest, shared by its hosts; connects with the first use."""

    def __init__(self, name: str, path: Path) -> None:
        """Remember the host's end of the control port."""
        self.name = name
        self.path = path
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._waiting: dict[str, Callable[[_Answer], None]] = {}
        self._ready = threading.Event()
        self._why_closed = ""

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            connection, self._socket = self._socket, None
        if connection is not None:
            with contextlib.suppress(OSError):  # the other end may be gone
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def wait_ready(self, deadline: float) -> None:
        """Wait until a freshly booted guest says that it is ready.

        Raises:
            GuestError: it does not, in time.
        """
        self._connection()
        if not self._ready.wait(deadline):
            raise GuestError(f"tenant guest {self.name}: not ready within {deadline:g} s")

    def ask(self, host: str, script: str, deadline: float) -> tuple[int, str]:
        """Run a script on a host and return its status and output.

        Raises:
            GuestError: no answer in time.
            InfrastructureError: the control port is gone.
        """
        answers: queue.Queue[_Answer] = queue.Queue()
        with self.listening(answers.put) as identifier:
            self._send(identifier, host, script)
            try:
                answer = answers.get(timeout=deadline)
            except queue.Empty:
                raise GuestError(
                    f"tenant {host}: no answer within {deadline:g} s to {script[:80]!r}"
                ) from None
        if answer is None:
            raise GuestError(f"tenant {host}: the control port of {self.name} was closed{self._why_closed}")
        return answer[0], base64.b64decode(answer[1]).decode(errors="replace")

    @contextlib.contextmanager
    def listening(self, heard: Callable[[_Answer], None]) -> Iterator[str]:
        """Yield an identifier; ``heard`` is called for each line that begins with it, from another thread."""
        identifier = f"c{next(self._ids)}"
        with self._lock:
            self._waiting[identifier] = heard
        try:
            yield identifier
        finally:
            with self._lock:
                self._waiting.pop(identifier, None)

    def _send(self, identifier: str, host: str, script: str) -> None:
        line = f"{identifier} {host} {base64.b64encode(script.encode()).decode()}\n".encode()
        connection = self._connection()
        with self._lock:
            try:
                connection.sendall(line)
            except OSError as error:
                raise GuestError(f"tenant {host}: control port is gone: {error}") from None

    def _connection(self) -> socket.socket:
        with self._lock:
            if self._socket is None:
                connection = socket.socket(socket.AF_UNIX)
                try:
                    connection.connect(str(self.path))
                except OSError as error:
                    connection.close()
                    raise InfrastructureError(
                        f"tenant guest {self.name}: control socket {self.path}: {error}"
                    ) from None
                threading.Thread(
                    target=self._read, args=(connection,), name=f"tenant-{self.name}", daemon=True
                ).start()
                self._socket = connection
            return self._socket

    def _read(self, connection: socket.socket) -> None:
        """Hand every line to whoever waits for it; others are answers that nobody waits for any more."""
        buffer = bytearray()
        while chunk := _receive(connection):
            *lines, rest = chunk.split(b"\n")
            if lines:
                lines[0], buffer = bytes(buffer) + lines[0], bytearray()
            buffer += rest
            if len(buffer) > AnswerLimits.output:
                self._why_closed = (
                    f": it said a line of more than {AnswerLimits.output} bytes, which is the limit"
                )
                break
            for line in lines:
                words = line.decode(errors="replace").split(" ")
                if words[0] == "ready":
                    self._ready.set()
                heard = self._waiting.get(words[0])
                if heard is not None and len(words) > 1 and words[1].isdigit():
                    heard((int(words[1]), words[2] if len(words) > 2 else ""))
        with self._lock:
            waiting = list(self._waiting.values())
            if self._socket is connection:
                self._socket = None
                connection.close()
        for heard in waiting:
            heard(None)


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1 << 16)
    except OSError:
        return b""
