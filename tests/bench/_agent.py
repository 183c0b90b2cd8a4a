"""The guest agent of a machine that libvirt does not know, for the rivals of the benchmarks."""

from __future__ import annotations

import base64
import itertools
import json
import socket
from pathlib import Path
from typing import Any, BinaryIO, cast

from harness.host import wait

_NAME = "org.qemu.guest_agent.0"


class Agent:
    """A guest agent behind a UNIX socket that QEMU listens at."""

    def __init__(self, path: Path) -> None:
        """Remember where the socket will be."""
        self._path = path
        self._marks = itertools.count(1)

    def arguments(self) -> list[str]:
        """Return what QEMU is told; a virtio-serial device comes first."""
        return [
            "-device", f"virtserialport,chardev=agent,name={_NAME}",
            "-chardev", f"socket,id=agent,path={self._path},server=on,wait=off",
        ]  # fmt: skip

    def deliver(self, path: str, content: bytes, deadline: float) -> None:
        """Write a file through the guest agent, once that answers."""
        wait.until(self._answers, "the guest agent", deadline, tick=0.05)
        with self._line(10.0) as line:
            self._synchronise(line)
            handle = self._ask(line, "guest-file-open", path=path, mode="w+")
            encoded = base64.b64encode(content).decode()
            self._ask(line, "guest-file-write", **{"handle": handle, "buf-b64": encoded})
            self._ask(line, "guest-file-close", handle=handle)

    def _answers(self) -> bool:
        """Ask on a line of its own: what an agent that is not there yet leaves unread goes with the line."""
        try:
            with self._line(0.5) as line:
                self._synchronise(line)
        except OSError:
            return False
        return True

    def _line(self, patience: float) -> BinaryIO:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(patience)
            line.connect(str(self._path))
            return cast(BinaryIO, line.makefile("rwb", buffering=0))

    def _synchronise(self, line: BinaryIO) -> None:
        """Skip the answers to questions of earlier lines."""
        mark = next(self._marks)
        answer = self._ask(line, "guest-sync", id=mark)
        while answer != mark:
            answer = self._answer(line)

    def _ask(self, line: BinaryIO, command: str, **arguments: object) -> Any:
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        line.write(json.dumps(request).encode() + b"\n")
        return self._answer(line)

    @staticmethod
    def _answer(line: BinaryIO) -> Any:
        text = line.readline()
        if not text:
            raise ConnectionError("QEMU has closed the agent's socket")
        return json.loads(text)["return"]
