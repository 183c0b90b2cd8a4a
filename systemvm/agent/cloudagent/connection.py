"""The connection to a management server: registered, kept alive, made anew with growing pauses when it breaks."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import random
import ssl
import time
from pathlib import Path
from typing import Awaitable, Callable, Dict, Set

from .config import Config
from .protocol import Frame, ProtocolError, read_frame, write_frame

STATE = Path("/run/cloud/agent-state.json")
CONNECT_SECONDS = 20.0
DEFAULT_INTERVAL, SHORTEST_INTERVAL, LONGEST_INTERVAL = 60.0, 0.05, 600.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0

Handler = Callable[[Frame], Awaitable[Frame]]

logger = logging.getLogger(__name__)


class Rejected(Exception):
    """The management server does not want this agent."""


def tls_context(config: Config) -> ssl.SSLContext:
    """Return a context that shows the agent's certificate and takes none but the CA's.

    The name is not compared: management servers are known by address, and the CA is the cloud's own.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(str(config.authority))
    context.load_cert_chain(str(config.certificate), str(config.key))
    return context


class Connection:
    """Talks to one management server after the other until it is stopped."""

    def __init__(self, config: Config, handlers: Dict[str, Handler], state: Path = STATE) -> None:
        self._config = config
        self._handlers = handlers
        self._state = state
        self._answers: Dict[int, "asyncio.Future[Frame]"] = {}
        self._numbers = itertools.count(1)
        self._writer: "asyncio.StreamWriter | None" = None
        self._sending: asyncio.Lock
        self._commands: "Set[asyncio.Future[None]]" = set()

    async def run(self) -> None:
        """Connect, serve, and start over; ends only when it is cancelled."""
        pause = FIRST_PAUSE
        for host in itertools.cycle(self._config.hosts):
            self._say("connecting", host)
            started = time.monotonic()
            try:
                await self._serve(host)
            except (OSError, EOFError, ssl.SSLError, asyncio.TimeoutError, ProtocolError, Rejected) as error:
                logger.warning("%s:%d: %s", host, self._config.port, error or type(error).__name__)
                self._say("disconnected", host, str(error) or type(error).__name__)
            if time.monotonic() - started > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            # Spread out, so that a restarted management server is not met by all of its agents at once.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 (no secret depends on it)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def ask(self, frame: Frame, seconds: float = 30) -> Frame:
        """Send a question to the management server and return its answer.

        Raises:
            ConnectionError: there is no connection.
            asyncio.TimeoutError: no answer came in time.
        """
        if self._writer is None:
            raise ConnectionError("not connected to a management server")
        number = next(self._numbers)
        future: "asyncio.Future[Frame]" = asyncio.get_event_loop().create_future()
        self._answers[number] = future
        try:
            await self._send(self._writer, dict(frame, id=number))
            return await asyncio.wait_for(future, seconds)
        finally:
            del self._answers[number]

    async def _serve(self, host: str) -> None:
        opening = asyncio.open_connection(host, self._config.port, ssl=tls_context(self._config))
        reader, writer = await asyncio.wait_for(opening, CONNECT_SECONDS)
        try:
            self._writer, self._sending = writer, asyncio.Lock()
            receiving = asyncio.ensure_future(self._receive(reader, writer))
            beating = asyncio.ensure_future(self._register_and_beat(host))
            done, pending = await asyncio.wait({receiving, beating}, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            for task in done:
                task.result()
        finally:
            self._writer = None
            for task in self._commands:
                task.cancel()
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter, frame: Frame) -> None:
        """Send one frame; before Python 3.10 only one task may wait until a connection takes more."""
        async with self._sending:
            await write_frame(writer, frame)

    async def _register_and_beat(self, host: str) -> None:
        hello = {"command": "startup", "guid": self._config.guid, "resource": self._config.resource}
        for key in ("name", "zone", "pod", "instance"):
            hello[key] = self._config.values.get(key, "")
        answer = await self.ask(hello)
        if not answer.get("accepted"):
            reason = answer.get("reason", "no reason given")
            raise Rejected(f"the management server refused: {reason}")
        interval = _interval(answer.get("ping_interval", DEFAULT_INTERVAL))
        logger.info("registered with %s as %s", host, self._config.guid)
        self._say("connected", host)
        while True:
            await asyncio.sleep(interval)
            await self.ask({"command": "ping", "guid": self._config.guid}, seconds=max(interval, 5.0))

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            frame = await read_frame(reader)
            if "answer" in frame:
                number = frame.get("id")
                future = self._answers.get(number) if isinstance(number, int) else None
                if future is not None and not future.done():
                    future.set_result(frame)
                continue
            # Side by side, because a copy takes minutes and the heartbeat must not wait for it.
            task = asyncio.ensure_future(self._obey(frame, writer))
            self._commands.add(task)
            task.add_done_callback(self._commands.discard)

    async def _obey(self, frame: Frame, writer: asyncio.StreamWriter) -> None:
        answer = await self._answer(frame)
        try:
            await self._send(writer, dict(answer, answer=frame.get("command"), id=frame.get("id")))
        except OSError as error:
            logger.warning("an answer was lost: %s", error)

    async def _answer(self, frame: Frame) -> Frame:
        handler = self._handlers.get(str(frame.get("command")))
        if handler is None:
            return {"result": False, "details": "unknown command {!r}".format(frame.get("command"))}
        if len(self._commands) > self._config.limits.commands:
            return {"result": False, "details": f"busy with {len(self._commands) - 1} commands"}
        try:
            return await handler(frame)
        except (OSError, ValueError, EOFError, asyncio.TimeoutError) as error:
            return {"result": False, "details": f"{type(error).__name__}: {error}"}
        except asyncio.CancelledError:  # an Exception, up to Python 3.7
            raise
        except Exception as error:
            # A fault of one command must not end the agent; its trace is in the log.
            logger.exception("%s", frame.get("command"))
            return {"result": False, "details": f"{type(error).__name__}: {error}"}

    def _say(self, state: str, host: str, reason: str = "") -> None:
        """Leave the state where health checks find it."""
        text = json.dumps(
            {"state": state, "host": host, "reason": reason, "pid": os.getpid(), "at": time.time()}
        )
        try:
            self._state.parent.mkdir(parents=True, exist_ok=True)
            new = self._state.with_name(self._state.name + ".new")
            new.write_text(text + "\n", encoding="utf-8")
            new.replace(self._state)
        except OSError as error:
            logger.warning("%s: %s", self._state, error)


def _interval(told: object) -> float:
    """Return the seconds between two heartbeats, whatever the server says."""
    if isinstance(told, (int, float)) and SHORTEST_INTERVAL <= told <= LONGEST_INTERVAL:
        return float(told)
    logger.warning("ping_interval %r is none: every %g s", told, DEFAULT_INTERVAL)
    return DEFAULT_INTERVAL
