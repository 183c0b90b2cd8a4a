"""The HTTP server: one socket, bounds on who holds it, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from bundle.errors import InfrastructureError
from harness.host import wait
from harness.management.api.limits import ApiLimits

_START_DEADLINE = 20.0


def configuration(
    app: Starlette, limits: ApiLimits, address: str, port: int, certificate: tuple[str, str] | None = None
) -> uvicorn.Config:
    """Return how uvicorn is to serve an application.

    Args:
        app: the application.
        limits: bounds of the server.
        address: to listen on.
        port: to listen on; 0 is any that is free.
        certificate: files with the certificate chain and its private key.
    """
    chain, key = certificate or (None, None)
    return uvicorn.Config(
        app, host=address, port=port, ssl_certfile=chain, ssl_keyfile=key, http=_patient_for(limits.header_time),
        ws="none", lifespan="off", limit_concurrency=limits.connections,
        h11_max_incomplete_event_size=limits.query + 8192,
        timeout_keep_alive=int(limits.header_time), timeout_graceful_shutdown=3, server_header=False,
        proxy_headers=False, access_log=False, log_config=None,
    )  # fmt: skip


def _patient_for(seconds: float) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with a bound on the time that the head of a request may take."""

    class Patient(H11Protocol):
        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            # The address of a request holds its key, and anybody may listen to uvicorn's log.
            self.access_log = False
            self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_is_here()
            super().connection_lost(exc)

        def handle_events(self) -> None:
            super().handle_events()
            if self.cycle is not None and not self.cycle.response_complete:
                self._head_is_here()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._head_is_here()
            self._await_head()

        def _await_head(self) -> None:
            self._late = self.loop.call_later(seconds, self.transport.close)

        def _head_is_here(self) -> None:
            if self._late is not None:
                self._late.cancel()

    return Patient


class BackgroundServer:
    """A server that runs in a thread of its own."""

    def __init__(self, configuration: uvicorn.Config) -> None:
        """Take how to serve; :meth:`start` does it."""
        self._server = uvicorn.Server(configuration)
        self._thread = threading.Thread(target=self._run, name="api", daemon=True)

    def _run(self) -> None:
        with suppress(SystemExit):  # its way to say that the port is taken
            self._server.run()

    def start(self) -> tuple[str, int]:
        """Serve, and return the address and the port.

        Raises:
            InfrastructureError: it cannot listen.
        """
        self._thread.start()
        with suppress(wait.DeadlineExceeded):
            wait.until(
                lambda: self._server.started or not self._thread.is_alive(),
                "the API",
                _START_DEADLINE,
                tick=0.01,
            )
        if not self._server.started:
            config = self._server.config
            raise InfrastructureError(
                f"cannot listen on {config.host}:{config.port}", hint="name a free port with --port"
            )
        address, port = self._server.servers[0].sockets[0].getsockname()[:2]
        return str(address), int(port)

    def wait(self) -> None:
        """Wait until it ends."""
        while self._thread.is_alive():
            self._thread.join(0.5)

    def stop(self) -> None:
        """End it: what is being answered is answered, within three seconds."""
        self._server.should_exit = True
        self._thread.join(10.0)


@contextmanager
def served(app: Starlette, limits: ApiLimits) -> Iterator[str]:
    """Serve on a free port of loopback while the block runs; yields an address such as ``http://127.0.0.1:41337``."""
    server = BackgroundServer(configuration(app, limits, "127.0.0.1", 0))
    address, port = server.start()
    try:
        yield f"http://{address}:{port}"
    finally:
        server.stop()
