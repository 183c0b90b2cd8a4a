"""Port 8250, to which the VM agents of SSVMs and CPVMs connect: each is accepted, kept alive, and its times are kept.

The handshake is what counts for any agent: it proves that the VM still has its key and still trusts the CA. Behind it,
the VM agent of our reference payload speaks frames (four bytes of length, a JSON object); a genuine one speaks Java's
own protocol, of which nothing is answered, and for which the handshake alone is judged.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import queue
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

from bundle.errors import InfrastructureError
from harness.host import wait

_LENGTH = struct.Struct(">I")
_LONGEST = 1 << 20


@dataclass(frozen=True)
class VmAgentSession:
    """One connection of a VM agent. Times are readings of the monotonic clock.

    Attributes:
        fingerprint: SHA-256 of the VM agent's certificate, in hex.
        began: end of the TLS handshake.
        ended: end of the connection; None while it lasts.
        guid: who the VM agent says it is; empty until it has registered.
        resource: what it says it serves.
    """

    fingerprint: str
    began: float
    ended: float | None = None
    guid: str = ""
    resource: str = ""


class VmAgentPort:
    """The server's port for VM agents, as a context manager; it runs in a thread of its own."""

    def __init__(
        self,
        context: ssl.SSLContext,
        host: str = "127.0.0.1",
        port: int = 0,
        ping_interval: float = 1.0,
        console: tuple[str, int] | None = None,
    ) -> None:
        """Prepare the port.

        Args:
            context: the server's side of TLS, which demands a certificate of the VM agent.
            host: where to listen.
            port: 0 lets the kernel choose.
            ping_interval: seconds between two signs of life that VM agents are asked for.
            console: VNC server that every token of a browser stands for; None lets no browser in.
        """
        self._context, self._where, self._interval = context, (host, port), ping_interval
        self._console = console
        self._lock = threading.Lock()
        self._sessions: list[VmAgentSession] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._failure: OSError | None = None
        self._writers: dict[int, asyncio.StreamWriter] = {}
        # By the number of a question: which session it went to, and who waits; None says that the session has ended.
        self._asked: dict[int, tuple[int, queue.Queue[dict[str, Any] | None]]] = {}
        self._numbers = itertools.count(1)
        self.on_ping: Callable[[str], None] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        """Start to listen."""
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="agent port", daemon=True)
        self._thread.start()
        ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        """Cut all connections and stop to listen."""
        if self._loop and self._stop and self._thread:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    @property
    def sessions(self) -> tuple[VmAgentSession, ...]:
        """Every connection since the start, in order."""
        with self._lock:
            return tuple(self._sessions)

    @property
    def latest(self) -> VmAgentSession | None:
        """The live session that began last, of a VM agent that has registered."""
        found = [row for row in self.sessions if row.guid and row.ended is None]
        return found[-1] if found else None

    def connected(self, guid: str) -> VmAgentSession | None:
        """Return the live session of a VM agent."""
        found = [row for row in self.sessions if row.guid == guid and row.ended is None]
        return found[-1] if found else None

    def wait_for(self, guid: str, deadline: float, since: float = 0.0) -> VmAgentSession:
        """Return the live session of a VM agent that began after a moment.

        Raises:
            DeadlineExceeded: it did not connect in time.
        """

        def look() -> VmAgentSession | None:
            session = self.connected(guid)
            return session if session and session.began >= since else None

        return wait.until(look, f"a connection of the agent {guid}", deadline)

    def ask(self, command: str, deadline: float, **fields: object) -> dict[str, Any]:
        """Ask the VM agent that registered last something, and return its answer.

        Raises:
            InfrastructureError: no VM agent is connected, or it does not answer in time.
            ConnectionError: the VM agent went away before it answered.
        """
        live = [index for index, row in enumerate(self.sessions) if row.guid and row.ended is None]
        writer = self._writers.get(live[-1]) if live else None
        if writer is None or self._loop is None:
            raise InfrastructureError(f"no agent is connected that could be asked for {command!r}")
        number = next(self._numbers)
        answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        with self._lock:
            self._asked[number] = (live[-1], answers)
        data = json.dumps({"command": command, "id": number, **fields}).encode()
        self._loop.call_soon_threadsafe(writer.write, _LENGTH.pack(len(data)) + data)
        try:
            answer = answers.get(timeout=deadline)
        except queue.Empty:
            raise InfrastructureError(f"the agent did not answer {command!r} within {deadline:g} s") from None
        finally:
            with self._lock:
                del self._asked[number]
        if answer is None:
            raise ConnectionError(f"the agent went away before it answered {command!r}")
        return answer

    def _run(self, ready: threading.Event) -> None:
        try:
            asyncio.run(self._main(ready))
        except OSError as error:
            self._failure = error
        finally:
            ready.set()

    async def _main(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            if task is not None:
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            # At the end it is cancelled; what asyncio calls after a connection takes that for a fault of its own.
            with contextlib.suppress(asyncio.CancelledError):
                await self._serve(reader, writer)

        server = await asyncio.start_server(serve, *self._where, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._stop.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = writer.get_extra_info("ssl_object")
        shown = tls.getpeercert(binary_form=True) or b""
        with self._lock:
            index = len(self._sessions)
            self._sessions.append(VmAgentSession(hashlib.sha256(shown).hexdigest(), time.monotonic()))
            self._writers[index] = writer
        try:
            while True:
                await self._answer(index, await _read(reader), writer)
        except (OSError, EOFError, ValueError, RecursionError):
            pass  # it went away, or speaks another protocol: the handshake has been seen
        finally:
            self._update(index, ended=time.monotonic())
            self._writers.pop(index, None)
            with self._lock:
                for session, waiting in self._asked.values():
                    if session == index:
                        waiting.put(None)
            writer.transport.abort()

    async def _answer(self, index: int, frame: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if "answer" in frame:
            with self._lock:
                asked = self._asked.get(int(frame.get("id", 0)))
            if asked is not None:
                asked[1].put(frame)
            return
        command = frame.get("command")
        if command == "startup":
            self._update(index, guid=str(frame.get("guid", "")), resource=str(frame.get("resource", "")))
            answer: dict[str, Any] = {"accepted": True, "ping_interval": self._interval}
        elif command == "console_access" and self._console is not None:
            answer = {"allowed": True, "host": self._console[0], "port": self._console[1]}
        else:
            answer = {"result": True}
        if self.on_ping is not None:
            self.on_ping(self.sessions[index].guid)
        data = json.dumps({**answer, "answer": command, "id": frame.get("id")}).encode()
        with contextlib.suppress(ConnectionError):
            writer.write(_LENGTH.pack(len(data)) + data)
            await writer.drain()

    def _update(self, index: int, **changes: Any) -> None:
        with self._lock:
            self._sessions[index] = replace(self._sessions[index], **changes)


async def _read(reader: asyncio.StreamReader) -> dict[str, Any]:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > _LONGEST:
        raise ValueError(f"a frame of {length} bytes")
    match json.loads(await reader.readexactly(length)):
        case dict() as frame:
            return frame
    raise ValueError("a frame that is no object")
