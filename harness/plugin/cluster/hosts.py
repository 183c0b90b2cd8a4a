"""The hosts of a cluster as a run sees them: who is there, what they are asked, and what they tell."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle.errors import InfrastructureError, UsageError
from harness.plugin.cluster import host
from harness.plugin.cluster.address import Meeting
from harness.plugin.cluster.engine import SLOT, engine
from harness.plugin.cluster.orders import News, Order, topic_of

if TYPE_CHECKING:
    from distributed import Client, Future

_PATIENCE = 15.0


@dataclass(frozen=True)
class HostFacts:
    """A host that takes part: its name, how many seats it has, and the cells of its golden snapshots."""

    name: str
    places: int
    cells: tuple[str, ...]


@dataclass
class Cluster:
    """The hosts of a scheduler.

    Attributes:
        client: the engine's.
        news: what seats tell, in the order of each seat's telling.
    """

    client: Client
    news: queue.SimpleQueue[News] = field(default_factory=queue.SimpleQueue)
    _tasks: dict[str, Future[Any]] = field(default_factory=dict)

    def present(self) -> dict[str, tuple[str, int]]:
        """Return who is there, as the scheduler said a moment ago: name and number of seats by address.

        Raises:
            InfrastructureError: the scheduler is gone.
        """
        if self.client.status not in ("running", "connecting"):
            raise InfrastructureError("the scheduler is gone")
        found = self.client.scheduler_info(n_workers=-1)["workers"]
        return {
            address: (str(row["name"]), int(row["resources"].get(SLOT, 0))) for address, row in found.items()
        }

    def facts(self, wanted: Sequence[str], files: Sequence[str] = ()) -> dict[str, HostFacts]:
        """Return the facts of hosts, by address; those that have gone meanwhile are left out.

        Args:
            wanted: their addresses.
            files: paths that must be the same there as here.

        Raises:
            InfrastructureError: a host has another version of this program.
            UsageError: a host has another file at a path, or none.
        """
        there = self.present()
        told = self._ask(host.tell_facts, wanted)
        own = host.digests(files)
        theirs = self._ask(host.tell_digests, wanted, files) if files else {}
        found = {}
        for address, row in told.items():
            name, places = there.get(address, (address, 0))
            if isinstance(row, BaseException) or row["program"] != host.program():
                raise InfrastructureError(
                    f"{name} has another version of this program", hint="install the same on every host"
                )
            _require_same(name, own, theirs.get(address, {}))
            if places:
                found[address] = HostFacts(name, places, tuple(row["golden"]))
        return found

    def _ask(self, function: Callable[..., Any], wanted: Sequence[str], *arguments: Any) -> dict[str, Any]:
        """Return the answers of hosts by address, an exception among them where a host failed to answer."""
        try:
            found: dict[str, Any] = self.client.run(
                function, *arguments, workers=list(wanted), on_error="return"
            )
        except (OSError, TimeoutError, ValueError) as error:
            raise InfrastructureError(f"the scheduler does not answer ({type(error).__name__})") from None
        return {address: row for address, row in found.items() if not isinstance(row, OSError)}

    def listen(self, run: str) -> None:
        """Let the seats of a run tell their news."""

        def take(event: tuple[float, Mapping[str, Any]]) -> None:
            row = event[1]
            self.news.put(News(row["seat"], row["kind"], row["content"]))

        self.client.subscribe_topic(topic_of(run), take)

    def sit(self, address: str, order: Order) -> None:
        """Let a host take a seat; its news say how it goes."""
        task = self.client.submit(
            host.sit, order, key=f"sysvm-{order.run}-{order.seat}", workers=[address], allow_other_workers=False,
            resources={SLOT: 1}, retries=0, pure=False,
        )  # fmt: skip
        self._tasks[order.seat] = task

    def give(self, address: str, seat: str, identifiers: Sequence[str], *, last: bool) -> bool:
        """Hand work on to a seat; says whether it is there and its host answered."""
        answer = self._ask(host.give, [address], seat, list(identifiers), last)
        return answer.get(address) is True

    def take_logs(self, address: str, seat: str, folder: str) -> bytes:
        """Return the logs of a scenario as an archive; nothing where the host is gone."""
        answer = self._ask(host.take_logs, [address], seat, folder).get(address)
        return answer if isinstance(answer, bytes) else b""

    def ended(self, seat: str) -> bytes | str | None:
        """Return the last logs of a seat that has ended, why one is lost, or None for one that has not ended."""
        task = self._tasks[seat]
        if task.status == "pending":
            return None
        try:
            logs: bytes = task.result(timeout=_PATIENCE)
        except Exception as error:  # of whatever kind: the seat did not end as it should
            kind = type(error).__name__
            return "its host is gone" if kind in {"KilledWorker", "CancelledError"} else f"{kind}: {error}"
        return logs

    def forget(self, seat: str) -> None:
        """Let go of a seat; one that is still taken is ended by its host."""
        task = self._tasks.pop(seat, None)
        if task is not None:
            with contextlib.suppress(Exception):  # nobody may be there any more
                task.cancel(force=True)


def files_in(arguments: Sequence[str]) -> list[str]:
    """Return the files and folders of this host that the values of options name, also among several with commas."""
    values = [part for word in arguments for part in word.partition("=")[2].split(",")]
    named = [value.rpartition("=")[2] for value in values]
    return [path for path in named if path.startswith("/") and Path(path).exists()]


def _require_same(name: str, own: Mapping[str, str], theirs: Mapping[str, str]) -> None:
    for path, digest in own.items():
        if theirs.get(path) != digest:
            what = "something else" if theirs.get(path) else "nothing"
            raise UsageError(f"{name} has {what} at {path}", hint="every host needs the same files there")


@contextmanager
def cluster_at(meeting: Meeting) -> Iterator[Cluster]:
    """Yield the cluster whose scheduler is at a place.

    Raises:
        InfrastructureError: nobody answers there, or not as we do.
    """
    meeting.require_answer()
    distributed = engine()
    try:
        client = distributed.Client(
            str(meeting), security=meeting.security(), timeout=_PATIENCE, set_as_default=False
        )
    except (OSError, TimeoutError, ValueError) as error:
        reason = (str(error.__cause__ or error).strip().splitlines() or [type(error).__name__])[0]
        raise InfrastructureError(f"{meeting} is no scheduler that answers: {reason}") from None
    try:
        yield Cluster(client)
    finally:
        client.close(timeout=_PATIENCE)


def require_hosts(meeting: Meeting, files: Sequence[str]) -> None:
    """Refuse a cluster on which a run cannot be made, before anything of it starts.

    Args:
        meeting: where its scheduler is.
        files: paths that must be the same on every host.

    Raises:
        InfrastructureError: nobody answers, nobody is there, or a host has another version of this program.
        UsageError: a host lacks a file, or has another one.
    """
    with cluster_at(meeting) as cluster:
        if not cluster.facts(list(cluster.present()), files):
            raise InfrastructureError(
                f"no host takes part at {meeting}", hint=f"'sysvm worker {meeting}' on a host lets it"
            )
