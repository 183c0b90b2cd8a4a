"""``python3 -m cloudagent WORD…``: run the agent of this VM until it is stopped."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import Awaitable

from . import config
from .connection import Connection
from .consoleproxy import ConsoleProxy, listening_port
from .secstorage import SecondaryStorage

CONF = Path(__file__).resolve().parent.parent / "conf"
# How long the end of the work may take before it is told again.
STOP_SECONDS = 0.5
# How long all that is under way besides may take to end.
END_SECONDS = 2.0

logger = logging.getLogger("cloudagent")


async def _certificate(settings: config.Config) -> None:
    """Wait until management has given this VM a certificate."""
    files = (settings.certificate, settings.key, settings.authority)
    if not all(file.exists() for file in files):
        logger.info("waiting for a certificate in %s", settings.folder)
    while not all(file.exists() for file in files):
        await asyncio.sleep(1)


async def _run(settings: config.Config) -> None:
    restoring = None
    if "ConsoleProxy" in settings.resource:
        proxy = ConsoleProxy(lambda frame: connection.ask(frame, 10), settings.limits)
        connection = Connection(settings, proxy.handlers())
        await proxy.start(listening_port())
    elif "SecondaryStorage" in settings.resource:
        storage = SecondaryStorage(settings)
        connection = Connection(settings, storage.handlers())
        await storage.start()
        restoring = asyncio.ensure_future(storage.restore())
    else:
        raise config.ConfigError(
            f"resource={settings.resource} is neither a console proxy nor secondary storage"
        )
    await _certificate(settings)
    try:
        await connection.run()
    finally:
        if restoring is not None:
            restoring.cancel()


def until_stopped(work: Awaitable[None]) -> None:
    """Run it to its end, or until a signal says to stop.

    Before Python 3.12 ``asyncio.wait_for`` loses a cancellation that comes together with its result, such as a
    connection that has just opened; so it is cancelled again until it has ended.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    task = asyncio.ensure_future(work, loop=loop)

    def stop() -> None:
        task.cancel()
        loop.call_later(STOP_SECONDS, stop)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        loop.run_until_complete(task)
    finally:
        _end_others(loop)


def _end_others(loop: asyncio.AbstractEventLoop) -> None:
    """End what is under way besides, such as uploads and copies: they take away what they have half written."""
    others = asyncio.all_tasks(loop)
    for other in others:
        other.cancel()
    if others:
        loop.run_until_complete(asyncio.wait(others, timeout=END_SECONDS))


def main() -> None:
    """Read the configuration and run."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        settings = config.load(CONF, sys.argv[1:])
        until_stopped(_run(settings))
    except asyncio.CancelledError:
        logger.info("stopped")
    except config.ConfigError as error:
        sys.exit(f"cloudagent: {error}")


if __name__ == "__main__":
    main()
