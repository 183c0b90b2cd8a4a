"""A server for the probes, run as a process of its own so that a test can freeze it or switch it off.

It prints the ports of HTTP, TCP echo and DNS; after a line "close" on its input it stops listening and cuts its
connections, after "open" it listens again on the same ports.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

HTTP = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
OPEN: set[asyncio.StreamWriter] = set()


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    OPEN.add(writer)
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HTTP)
        await writer.drain()
        writer.close()
    OPEN.discard(writer)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    OPEN.add(writer)
    with contextlib.suppress(OSError):
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
    OPEN.discard(writer)


class Dns(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = (
            data[:2]
            + b"\x81\x80"
            + data[4:6]
            + b"\0\1"
            + data[8:]
            + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\x0a\1\1\x32"
        )
        self.transport.sendto(answer, addr)


async def listen(ports: list[int]) -> list[object]:
    loop = asyncio.get_running_loop()
    servers: list[object] = []
    for handler, port in zip((http, echo), ports, strict=False):
        servers.append(await asyncio.start_server(handler, "127.0.0.1", port, backlog=1024))
    transport, _ = await loop.create_datagram_endpoint(Dns, local_addr=("127.0.0.1", ports[2]))
    return [*servers, transport]


async def main() -> None:
    loop = asyncio.get_running_loop()
    running = await listen([0, 0, 0])
    ports = [server.sockets[0].getsockname()[1] for server in running[:2]]
    ports.append(running[2].get_extra_info("sockname")[1])
    print(*ports, flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        if line == "close\n":
            for server in running:
                server.close()
            for writer in list(OPEN):
                writer.transport.abort()
        else:
            running = await listen(ports)
        print(line, end="", flush=True)


asyncio.run(main())
