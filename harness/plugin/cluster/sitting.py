"""A seat from without: a host starts it, hands on its orders and its news, and leaves nothing of it behind."""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from bundle import programs
from bundle.errors import SysvmError
from harness.host import runtime
from harness.plugin.cluster.orders import NewsKind, Order
from harness.plugin.planning import SHIPPED
from harness.record.results import EVENTS

Teller = Callable[[NewsKind, Any], None]
# Seconds between two looks at whether the seat is still wanted, and at its event log.
_TICK = 0.1
# Seconds that a seat has to stop its machines and copy logs before it is killed.
END_DEADLINE = 90.0
# Seconds for what is still in the pipes of a process that has ended; a child of its may hold them open.
_LAST_WORDS = 5.0
_PYTEST_LOG = "pytest.log"


@dataclass
class Sitting:
    """A seat that is taken: its process, its folder of results, and whom its news are told.

    Attributes:
        order: what it is about.
        results: its folder of results, which goes with it.
        tell: takes its news.
    """

    order: Order
    results: Path
    tell: Teller
    _input: IO[str] | None = field(default=None, init=False)
    _answers: queue.SimpleQueue[dict[str, Any]] = field(default_factory=queue.SimpleQueue, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _kept: list[str] = field(default_factory=list, init=False)
    _dismissed: bool = field(default=False, init=False)
    _read: int = field(default=0, init=False)

    def give(self, identifiers: Sequence[str], *, last: bool) -> None:
        """Hand on what the seat makes next; what comes before its process runs is kept for it.

        Args:
            identifiers: of tests.
            last: whether nothing comes after them.
        """
        with self._lock:
            self._dismissed |= last
            self._kept += identifiers
            self._hand_on()

    def take_logs(self, folder: str | None = None) -> bytes:
        """Return a tar archive of the logs below a folder of the results' logs, or of all, and remove them."""
        root = self.results / "logs"
        chosen = root if folder is None else root / folder
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
            for path in sorted(chosen.rglob("*")) if chosen.is_relative_to(root) else ():
                if path.is_file():
                    archive.add(path, arcname=str(path.relative_to(root)), recursive=False)
                    path.unlink()
        return packed.getvalue()

    def play(self, is_wanted: Callable[[], bool]) -> tuple[bytes, str]:
        """Run the seat to its end; returns the rest of its logs, and its last words if it ended badly.

        Args:
            is_wanted: asked all the time; a seat that nobody wants any more is interrupted as by Ctrl-C.
        """
        with self._started() as process:
            deadline = None
            while process.poll() is None:
                self._pass_on(_TICK)
                if deadline is None and not is_wanted():
                    process.send_signal(signal.SIGINT)
                    deadline = time.monotonic() + END_DEADLINE
                elif deadline is not None and time.monotonic() > deadline:
                    process.kill()
        self._pass_on(0.0)
        status = process.returncode
        if status < 0:
            _clear_up()
        good = status in (0, 1) or deadline is not None
        return self.take_logs(), "" if good else self._last_words(status)

    @contextlib.contextmanager
    def _started(self) -> Iterator[subprocess.Popen[str]]:
        """Yield the process of the seat, and wait for what it says last."""
        theirs, ours = os.pipe()[::-1]
        # The kernel interrupts it when the thread that runs it does not any more, as when the host's worker is killed.
        command = [
            "setpriv",
            "--pdeathsig",
            "INT",
            sys.executable,
            "-m",
            "harness.plugin.cluster.seat",
            f"{theirs}",
        ]
        with (self.results / _PYTEST_LOG).open("w") as log, programs.starting(command[0]):
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.PIPE, pass_fds=[theirs], text=True,
                process_group=0, errors="replace",
            )  # fmt: skip
        os.close(theirs)
        threads = [
            threading.Thread(target=self._listen, args=(os.fdopen(ours),), daemon=True),
            threading.Thread(target=self._hear, args=(process.stderr,), daemon=True),
        ]
        for thread in threads:
            thread.start()
        order = {
            "results": str(self.results), "seed": self.order.seed,
            "folder": self.order.folder or str(SHIPPED), "arguments": self.order.arguments,
        }  # fmt: skip
        with self._lock:
            self._input = process.stdin
            self._kept.insert(0, json.dumps(order))
            self._hand_on()
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            for thread in threads:
                thread.join(_LAST_WORDS)
            with self._lock, contextlib.suppress(OSError):
                process.stdin and process.stdin.close()
                self._input = None

    def _hand_on(self) -> None:
        """Write to the seat's input what is kept for it."""
        if self._input is None or self._input.closed:
            return
        with contextlib.suppress(OSError):  # it has ended, which is told in its place
            self._input.writelines(f"{line}\n" for line in self._kept)
            self._input.flush()
            self._kept.clear()
            if self._dismissed:
                self._input.close()

    def _listen(self, answers: IO[str]) -> None:
        with answers:
            for line in answers:
                self._answers.put(json.loads(line))

    def _hear(self, errors: IO[str]) -> None:
        with errors:
            for line in errors:
                self.tell("said", line.rstrip("\n"))

    def _pass_on(self, seconds: float) -> None:
        """Tell what is in the event log, then of a scenario that has ended: its events come before its end."""
        answers: list[dict[str, Any]] = []
        with contextlib.suppress(queue.Empty):
            answers.append(self._answers.get(timeout=seconds) if seconds else self._answers.get_nowait())
            while True:
                answers.append(self._answers.get_nowait())
        self._tell_events()
        for answer in answers:
            self.tell("done", answer)

    def _tell_events(self) -> None:
        try:
            with (self.results / EVENTS).open("rb") as log:
                log.seek(self._read)
                text = log.read()
        except FileNotFoundError:
            return  # no scenario has begun yet
        whole = text.rpartition(b"\n")[0]
        if whole:
            self._read += len(whole) + 1
            self.tell("events", whole.decode(errors="replace").split("\n"))

    def _last_words(self, status: int) -> str:
        said = (self.results / _PYTEST_LOG).read_text(errors="replace").strip().splitlines()
        return f"its scenarios' process ended with status {status}" + (f": {said[-1]}" if said else "")


@contextlib.contextmanager
def sitting(order: Order, scratch: Path, tell: Teller) -> Iterator[Sitting]:
    """Yield a seat that is to be played, in a folder of its own that goes with it."""
    with tempfile.TemporaryDirectory(prefix="seat-", dir=scratch, ignore_cleanup_errors=True) as folder:
        yield Sitting(order, Path(folder), tell)


def _clear_up() -> None:
    """Remove what a seat left that was killed: its machines, their folders and disks."""
    if not runtime.has_abandoned():
        return
    from harness.host.hypervisor import hypervisor
    from harness.vm import reaper

    with contextlib.suppress(SysvmError), hypervisor() as host:  # else the next command does it
        reaper.reap(host)
