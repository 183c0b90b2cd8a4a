"""Calls with patience: what only reads is asked again until it is answered, what changes something is sent once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bundle.errors import InfrastructureError
from harness.record.events import Json
from harness.rollout.clock import RolloutClock
from harness.rollout.transport import (
    BAD_PARAMETER,
    Busy,
    LostAnswer,
    Parameters,
    Rejected,
    SessionEnded,
    Transport,
)

# The name of the rows in an answer, by call.
LISTS = {
    "listSystemVms": "systemvm",
    "listRouters": "router",
    "listInternalLoadBalancerVMs": "internalloadbalancervm",
    "listNetworks": "network",
    "listVPCs": "vpc",
    "listZones": "zone",
    "listApis": "api",
    "listConfigurations": "configuration",
}
_PAGE = 500
# How often a list is read whose rows move from page to page meanwhile.
_READINGS = 3
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0
# Seconds until an answer is given up: a list of hundreds of rows, and health checks that run in a VM.
TIMEOUT, SLOW_TIMEOUT = 60.0, 300.0


def _nothing(_line: str) -> None:
    """Tell nobody."""


@dataclass
class Api:
    """A server's API.

    Attributes:
        transport: the way there.
        clock: what tells the time.
        patience: seconds for which a read is asked again while the server is away or busy.
        say: tells a person what is waited for.
    """

    transport: Transport
    clock: RolloutClock
    patience: float = 600.0
    say: Callable[[str], None] = field(default=_nothing)

    def read(
        self, command: str, *, timeout: float = TIMEOUT, **parameters: str | int | bool
    ) -> dict[str, Json]:
        """Return the answer of a call that changes nothing.

        Raises:
            Rejected: the server says no.
            InfrastructureError: it does not answer as long as there is patience.
        """
        began, wait = self.clock.now(), _FIRST_WAIT
        while True:
            try:
                return self._send(command, parameters, timeout)
            except (LostAnswer, Busy) as error:
                spent = (self.clock.now() - began).total_seconds()
                asked = error.after if isinstance(error, Busy) and error.after is not None else wait
                if spent + asked > self.patience:
                    raise InfrastructureError(
                        f"{command}: no answer within {self.patience:g} s: {error}",
                        hint="nothing was begun anew; 'sysvm rollout resume' goes on once the server answers",
                    ) from None
                self.say(f"{error}; asking again in {asked:.0f} s")
                self.clock.sleep(asked)
                wait = min(wait * 2, _LONGEST_WAIT)

    def rows(self, command: str, **parameters: str | int | bool) -> list[dict[str, Json]]:
        """Return every row of a list, each once.

        Raises:
            Rejected: the server says no.
            InfrastructureError: it does not answer, or what it answers is no list.
        """
        for _ in range(_READINGS):
            found, whole = self._pages(command, parameters)
            if whole:
                return found
            self.say(f"{command}: the list changed while it was read; reading it again")
        raise InfrastructureError(
            f"{command}: rows came twice and others not at all, {_READINGS} times in a row"
        )

    def _pages(self, command: str, parameters: Parameters) -> tuple[list[dict[str, Json]], bool]:
        """Return the rows of all pages, and whether they are as many as the server counts, each once."""
        found: dict[str, dict[str, Json]] = {}
        taken, page = 0, 1
        while True:
            answer = self.read(command, timeout=TIMEOUT, page=page, pagesize=_PAGE, **parameters)
            rows = answer.get(LISTS[command], [])
            count = answer.get("count", 0)
            if not isinstance(rows, list) or not isinstance(count, int) or (count and not rows and page == 1):
                raise InfrastructureError(f"{command}: the answer is no list of {LISTS[command]}")
            for row in rows:
                if not isinstance(row, dict):
                    raise InfrastructureError(f"{command}: a row is no object")
                found.setdefault(str(row.get("id") or f"row {taken + len(found)}"), row)
            taken += len(rows)
            if not rows or taken >= count:
                return list(found.values()), not rows or len(found) >= min(taken, count)
            page += 1

    def one(
        self, command: str, key: str, *, timeout: float = TIMEOUT, **parameters: str | int | bool
    ) -> dict[str, Json]:
        """Return the single object of an answer, whether the server wraps it in its name or not.

        Raises:
            Rejected: the server says no.
            InfrastructureError: it does not answer, or with something else.
        """
        answer = self.read(command, timeout=timeout, **parameters)
        found = answer.get(key, answer)
        if not isinstance(found, dict):
            raise InfrastructureError(f"{command}: the answer is no {key}")
        return found

    def change(self, command: str, **parameters: str | int | bool) -> dict[str, Json]:
        """Send a call that changes something, once; after the end of a session, which refuses it, once more.

        Raises:
            LostAnswer: nobody knows whether it was carried out.
            Busy: the server takes no call now.
            Rejected: the server says no.
        """
        return self._send(command, parameters, TIMEOUT)

    def job(self, job: str) -> dict[str, Json] | None:
        """Return what the server says of a job; None when it knows none by that id.

        Raises:
            Rejected: the server says no for another reason.
            InfrastructureError: it does not answer, or with something else than a job.
        """
        try:
            found = self.one("queryAsyncJobResult", "asyncjobs", jobid=job)
        except Rejected as error:
            if error.code == BAD_PARAMETER:
                return None
            raise
        if found.get("jobstatus") not in (0, 1, 2, 3):
            raise InfrastructureError(f"queryAsyncJobResult: no status of job {job}")
        return found

    def _send(self, command: str, parameters: Parameters, timeout: float) -> dict[str, Json]:
        try:
            return self.transport.send(command, parameters, timeout)
        except SessionEnded:
            if not self.transport.renew():
                raise
            self.say("the session has ended; a new one is open")
            return self.transport.send(command, parameters, timeout)
