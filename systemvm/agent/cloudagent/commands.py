"""Programs that the agent runs: never through a shell, never longer than they may take."""

from __future__ import annotations

import asyncio
import contextlib


async def run(*command: str, seconds: float) -> str:
    """Run a program and return what it says.

    Raises:
        OSError: it failed, or did not end in time and was killed.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    # The name alone: arguments may hold a password.
    name = command[0].rpartition("/")[2]
    try:
        output, _ = await asyncio.wait_for(process.communicate(), seconds)
    except asyncio.TimeoutError:
        raise OSError(f"{name} did not end within {seconds:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            # Reaped, and its pipe closed; a child of it may keep the pipe, and nobody waits for that.
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.communicate(), 1.0)
    text = output.decode("utf-8", "replace").strip()
    if process.returncode:
        raise OSError(f"{name} ended with status {process.returncode}: {text}")
    return text
