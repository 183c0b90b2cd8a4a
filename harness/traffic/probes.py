"""The probes: each asks one question of one service, again and again, and never waits for the answer to ask anew."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Protocol

from harness.traffic.measurement import Recorder

RATE = 50.0  # requests a second
TIMEOUT = 1.0  # seconds until a request counts as lost


class Wrong(Exception):
    """An answer arrived, but not the right one."""


class Probe(Protocol):
    """Something that can be asked repeatedly."""

    @property
    def name(self) -> str:
        """The probe's name in reports."""
        ...

    @property
    def rate(self) -> float:
        """Requests a second."""
        ...

    async def run(self, recorder: Recorder, stop: asyncio.Event) -> None:
        """Ask until ``stop`` is set, and report to the recorder."""
        ...


def _ticks(recorder: Recorder, rate: float) -> Iterator[float]:
    """Yield how long to wait until each next request; beats that were missed are left out, not made up for."""
    number = int((time.monotonic() - recorder.started) * rate)
    while True:
        now = time.monotonic() - recorder.started
        late = now - number / rate
        if late > 1.0 / rate:
            recorder.lagged(late)
            number = int(now * rate) + 1
        yield max(number / rate - now, 0.0)
        number += 1


async def _pause(stop: asyncio.Event, seconds: float) -> bool:
    """Wait; return whether the probes have been stopped meanwhile."""
    if seconds <= 0:
        await asyncio.sleep(0)
        return stop.is_set()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
    return stop.is_set()


@dataclass(frozen=True)
class Repeated(ABC):
    """A question that each time stands for itself."""

    name: str
    host: str
    port: int
    rate: float = field(default=RATE, kw_only=True)
    timeout: float = field(default=TIMEOUT, kw_only=True)

    @abstractmethod
    async def ask(self) -> None:
        """Ask once; any exception means that there was no right answer."""

    async def run(self, recorder: Recorder, stop: asyncio.Event) -> None:
        """Ask at the given rate, whatever became of the earlier questions."""
        async with asyncio.TaskGroup() as open_questions:
            for seconds in _ticks(recorder, self.rate):
                if await _pause(stop, seconds):
                    return
                open_questions.create_task(self._once(recorder))

    async def _once(self, recorder: Recorder) -> None:
        recorder.sent()
        at = time.monotonic()
        try:
            async with asyncio.timeout(self.timeout):
                await self.ask()
        except TimeoutError:
            recorder.lost(at, f"no answer within {self.timeout:g} s")
        except (OSError, EOFError, Wrong) as error:
            recorder.lost(at, f"{type(error).__name__}: {error}")
        else:
            recorder.answered()


@contextlib.asynccontextmanager
async def connection(
    host: str, port: int
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Yield reader and writer of a new connection."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        # Abort instead of close: thousands of connections in TIME_WAIT would use up the ports.
        writer.transport.abort()


@dataclass(frozen=True)
class HttpProbe(Repeated):
    """A new HTTP connection each time, as a load balancer's customers make.

    ``expect`` must be in the body, and the status must be the given one.
    """

    path: str = "/"
    expect: bytes = b""
    status: int = 200

    async def ask(self) -> None:
        """Request the path and check status and body."""
        async with connection(self.host, self.port) as (reader, writer):
            lines = (f"GET {self.path} HTTP/1.1", f"Host: {self.host}", "Connection: close", "", "")
            writer.write("\r\n".join(lines).encode())
            head = await reader.readuntil(b"\r\n\r\n")
            status = head.split(b"\r\n", 1)[0].split(b" ")
            if len(status) < 2 or status[1] != str(self.status).encode():
                raise Wrong(f"status line {status!r}")
            if self.expect and self.expect not in await reader.read(65536):
                raise Wrong(f"{self.expect!r} is not in the body")


@dataclass(frozen=True)
class TcpProbe(Repeated):
    """A new TCP connection each time, as through a port forward.

    What is sent first, if anything, and what the first bytes of the answer must hold.
    """

    send: bytes = b""
    expect: bytes = b""

    async def ask(self) -> None:
        """Connect, send, and wait for the expected bytes."""
        async with connection(self.host, self.port) as (reader, writer):
            writer.write(self.send)
            seen = b""
            while self.expect not in seen or not seen:
                part = await reader.read(4096)
                if not part:
                    raise Wrong(f"the connection ended after {seen[:40]!r}")
                seen += part


@dataclass(frozen=True)
class DnsProbe(Repeated):
    """An A query over UDP each time; the answer must be free of errors and hold the address, when one is given."""

    query: str = ""
    address: IPv4Address | None = None

    async def ask(self) -> None:
        """Send one query from a socket of its own and check the answer."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _OneDatagram(answer), remote_addr=(self.host, self.port)
        )
        try:
            transport.sendto(dns_query(self.query))
            data = await answer
        finally:
            transport.close()
        if len(data) < 12 or data[3] & 0x0F or (self.address and self.address.packed not in data[12:]):
            raise Wrong(f"the answer for {self.query} does not hold {self.address or 'an answer'}")


class _OneDatagram(asyncio.DatagramProtocol):
    """Hands over the first datagram, or the first error."""

    def __init__(self, answer: asyncio.Future[bytes]) -> None:
        self._answer = answer

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - asyncio's interface
        """Take the answer."""
        if not self._answer.done():
            self._answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        """Take an ICMP error."""
        if not self._answer.done():
            self._answer.set_exception(exc)


def dns_query(name: str) -> bytes:
    """Return an A query for a name, recursion desired."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    return struct.pack(">HHHHHH", 0x5359, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">BHH", 0, 1, 1)


@dataclass(frozen=True)
class StreamProbe:
    """One long-lived connection on which the other side echoes; a broken one is counted and opened again.

    Attributes:
        name: what the report calls it.
        host: where to connect.
        port: and to which port.
        hello: sent first, for instance an HTTP request for a stream.
        echo: whether the other side sends back what it gets; otherwise it sends by itself.
        rate: echoes a second that are asked for, or parts a second that the other side sends.
        timeout: seconds for a new connection.
    """

    name: str
    host: str
    port: int
    hello: bytes = b""
    echo: bool = True
    rate: float = field(default=RATE, kw_only=True)
    timeout: float = field(default=TIMEOUT, kw_only=True)

    async def run(self, recorder: Recorder, stop: asyncio.Event) -> None:
        """Keep one stream going until ``stop`` is set."""
        while not stop.is_set():
            at = time.monotonic()
            try:
                async with asyncio.timeout(self.timeout):
                    reader, writer = await asyncio.open_connection(self.host, self.port)
            except (OSError, TimeoutError) as error:
                recorder.sent()
                recorder.lost(at, f"cannot open the stream again: {error or type(error).__name__}")
                await _pause(stop, 1 / self.rate)
                continue
            recorder.opened()
            try:
                await self._stream(reader, writer, recorder, stop)
            finally:
                writer.transport.abort()

    async def _stream(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        recorder: Recorder,
        stop: asyncio.Event,
    ) -> None:
        writer.write(self.hello)
        hearing = asyncio.create_task(self._hear(reader, recorder))
        try:
            for seconds in _ticks(recorder, self.rate):
                if await _pause(stop, seconds):
                    return
                if hearing.done():
                    recorder.broken(hearing.result())
                    return
                recorder.sent()
                if self.echo:
                    writer.write(b".")
        finally:
            hearing.cancel()

    @staticmethod
    async def _hear(reader: asyncio.StreamReader, recorder: Recorder) -> str:
        """Count every part that arrives; return how the stream ended."""
        try:
            while await reader.read(65536):
                recorder.answered()
        except OSError as error:
            return f"the stream broke: {error}"
        return "the other side closed the stream"
