"""Probes that run on a host around the router: a loop there asks, and reports each request over its control port."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.traffic.measurement import Recorder
from harness.vm.tenant.tenant import Tenant

TIMEOUT = 1.0  # seconds until a request counts as lost
# First field of what a host reports: the second one is the number of the request.
_ANSWERED, _LOST, _SENT = 0, 1, 2


@dataclass
class _Ledger:
    """Counts a host's reports; the time that matters is that of their arrival."""

    recorder: Recorder
    timeout: float = TIMEOUT
    pending: dict[str, float] = field(default_factory=dict)

    def heard(self, report: tuple[int, str] | None) -> None:
        """Take one report."""
        if report is None:
            return
        kind, number = report
        if kind == _SENT:
            self.recorder.sent()
            self.pending[number] = time.monotonic()
        elif kind == _LOST:
            self.recorder.lost(self.pending.pop(number, time.monotonic()), "no right answer")
        else:
            self.recorder.answered()
            self.pending.pop(number, None)
            if not number:  # it answers everything that was asked before
                self.pending.clear()

    def close(self) -> None:
        """Count what nobody answered in time."""
        late = time.monotonic() - self.timeout
        for sent_at in list(self.pending.values()):
            if sent_at < late:
                self.recorder.lost(sent_at, f"no answer within {self.timeout:g} s")


@dataclass(frozen=True)
class TenantProbe:
    """A command that a host runs again and again; status 0 is the right answer.

    Attributes:
        name: what the report calls it.
        host: who runs it.
        command: in the host's shell; ended after ``timeout`` seconds.
        rate: how often a second; the next one does not wait for the answer.
        timeout: seconds until a request counts as lost.
    """

    name: str
    host: Tenant
    command: str
    rate: float
    timeout: float = TIMEOUT

    def script(self, identifier: str) -> str:
        """Return the loop that the host runs until its mark is removed."""
        once = f"timeout {self.timeout:.0f} sh -c {_quoted(self.command)}"
        return _LOOP.format(
            id=identifier, pause=round(1e6 / self.rate),
            request=f"( if {once}; then echo {identifier} {_ANSWERED} $n; else echo {identifier} {_LOST} $n; fi >&3 ) "
            f"</dev/null 2>/dev/null &",
            before="", after="",
        )  # fmt: skip

    async def run(self, recorder: Recorder, stop: asyncio.Event) -> None:
        """Let the host ask until ``stop`` is set."""
        await _report(self.host, self.script, _Ledger(recorder, self.timeout), stop)


@dataclass(frozen=True)
class RenewalProbe:
    """A DHCP client on a host that renews its lease again and again.

    A client that is told to renew while it still waits for an answer starts from the beginning, and one that is told so
    in each second never ends where an answer takes longer. It is told to renew after an answer, once more when none
    comes, to start from the beginning, which it then goes on with by itself, and at every tenth request.

    Attributes:
        name: what the report calls it.
        host: who has the lease.
        rate: renewals a second.
    """

    name: str
    host: Tenant
    rate: float

    def script(self, identifier: str) -> str:
        """Return the loop that the host runs until its mark is removed."""
        pause = round(1e6 / self.rate)
        hook, heard = f"/etc/udhcpc.{identifier}", f"/etc/udhcpc.{identifier}.heard"
        told = f'case "$1" in renew|bound) echo {identifier} {_ANSWERED} >&9; echo $$ >{heard};; esac'
        return _LOOP.format(
            id=identifier, pause=pause,
            # udhcpc uses descriptor 3 itself.
            before=f"exec 9>&3; printf '%s\\n' '#!/bin/busybox sh' {_quoted(told)} >{hook}; chmod 755 {hook}; "
            # Its own pauses between attempts must not look like the server's.
            # Its first request asks for the lease that it then renews.
            f"echo {identifier} {_SENT} 0 >&3; : >{heard}; last=; since=2; "
            f"udhcpc -i eth0 -f -t 100 -T 1 -A 1 -s {hook} & client=$!; /bin/usleep {pause}",
            request=f'now=; read -r now <{heard}; [ "$now" = "$last" ] || {{ last=$now; since=0; }}; '
            "case $since in *0|1) kill -USR1 $client;; esac; since=$((since + 1))",
            after=f"kill $client; rm {hook} {heard}",
        )  # fmt: skip

    async def run(self, recorder: Recorder, stop: asyncio.Event) -> None:
        """Let the host renew until ``stop`` is set."""
        await _report(self.host, self.script, _Ledger(recorder), stop)


# The full path of usleep makes the shell start a process and wait for it, and thereby reap those of earlier requests.
_LOOP = """\
: >/tmp/probe.{id}
{{
{before}
n=0
while [ -e /tmp/probe.{id} ]; do
n=$((n + 1))
echo {id} 2 $n >&3
{request}
/bin/usleep {pause}
done
{after}
}} >/dev/null 2>&1 </dev/null &
"""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


async def _report(host: Tenant, script: Callable[[str], str], ledger: _Ledger, stop: asyncio.Event) -> None:
    with host.control.listening(ledger.heard) as identifier:
        await asyncio.to_thread(host.run, script(identifier))
        await stop.wait()
        await asyncio.to_thread(host.run, f"rm -f /tmp/probe.{identifier}")
    ledger.close()
