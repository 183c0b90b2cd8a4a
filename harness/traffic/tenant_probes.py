"""Probes that run on a host around the router: a loop there asks, and reports each request over its control port."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from harness.traffic.measurement import Recorder
from harness.vm.tenant.tenant import Tenant

TIMEOUT = 1.0  # seconds until a request counts as lost
# What a host tells of a request: first field of an entry; the others are its number and the guest's clock.
_ANSWERED, _LOST, _SENT = 0, 1, 2
# Where a host keeps its entries, and until when a loop goes on.
_TOLD, _MARK = "/etc/probe.told", "/etc/probe"


@dataclass
class _Ledger:
    """Counts a host's entries at the time at which it made them, by its own clock.

    A busy guest waits for seconds until a line leaves it: the time of arrival says when it was told, not when somebody
    was answered. The guest's clock runs as the host's does; the line that was under way for the shortest time says how
    far they are apart.
    """

    recorder: Recorder
    timeout: float = TIMEOUT
    pending: dict[str, float] = field(default_factory=dict)
    apart: float = float("inf")
    taken: int = 0
    broken: ValueError | None = None

    def heard(self, report: tuple[int, str] | None) -> None:
        """Take one line: the guest's clock when it was made, and new entries, separated by commas."""
        if report is None:
            return
        try:
            now, *entries = report[1].split(",")
            self._met(now)
            self._take(entries)
        except ValueError as error:  # the thread that reads the port serves other probes, too
            self.broken = self.broken or error

    def close(self, everything: str) -> None:
        """Take what no line told so far, from the guest's clock and all entries; count what nobody answered in time.

        Raises:
            ValueError: something that the host told is no entry.
        """
        if self.broken is not None:
            raise self.broken
        now, *entries, _ = everything.split("\n")
        self._met(now)
        self._take(entries[self.taken :])
        late = time.monotonic() - self.timeout
        for sent_at in list(self.pending.values()):
            if sent_at < late:
                self.recorder.lost(sent_at, f"no answer within {self.timeout:g} s")

    def _met(self, now: str) -> None:
        self.apart = min(self.apart, time.monotonic() - float(now))

    def _take(self, entries: Iterable[str]) -> None:
        for entry in entries:
            kind, number, at = entry.split(":")
            self._count(int(kind), number, min(time.monotonic(), self.apart + float(at)))
            self.taken += 1

    def _count(self, kind: int, number: str, at: float) -> None:
        if kind == _SENT:
            self.recorder.sent(at)
            self.pending[number] = at
        elif kind == _LOST:
            self.recorder.lost(self.pending.pop(number, at), "no right answer")
        else:
            self.recorder.answered(at)
            self.pending.pop(number, None)


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
        pause = round(1e6 / self.rate)
        once = f"timeout {self.timeout:.0f} sh -c {_quoted(self.command)}"
        return _LOOP.format(
            id=identifier, pause=pause, part=pause // 5,
            request=f"( if {once}; then kind={_ANSWERED}; else kind={_LOST}; fi; {_NOW}; "
            f'echo "$kind:$n:$now" >&9 ) </dev/null 2>/dev/null &',
        )  # fmt: skip

    async def run(self, recorder: Recorder, stop: asyncio.Event) -> None:
        """Let the host ask until ``stop`` is set."""
        await _report(self.host, self.script, _Ledger(recorder, self.timeout), stop)


_NOW = "read -r now _ </proc/uptime"
# Entries are written to a file, which lets nobody wait. The loop alone writes to the port, in every second turn: under
# emulation each line to it holds up the whole guest. In the first two turns answers are told soon. Of an entry that is
# not whole yet the beginning is kept for the next line.
# The full path of usleep makes the shell start a process and wait for it, and thereby reap those of earlier requests.
_LOOP = f"""\
: >{_TOLD}.{{id}}
: >{_MARK}.{{id}}
{{{{
exec 4<{_TOLD}.{{id}} 9>>{_TOLD}.{{id}}
left=
tell() {{{{
entries=
while read -r entry <&4; do entries="$entries,$left$entry"; left=; done
left=$left$entry
[ -n "$entries" ] || return 0
{_NOW}
echo "{{id}} 3 $now$entries" >&3
}}}}
n=0
while [ -e {_MARK}.{{id}} ]; do
n=$((n + 1))
{_NOW}
echo "{_SENT}:$n:$now" >&9
{{request}}
if [ $n -gt 2 ]; then
/bin/usleep {{pause}}
[ $((n % 2)) = 0 ] || tell
else
for _ in 1 2 3 4 5; do
/bin/usleep {{part}}
tell
done
fi
done
rm -f {_TOLD}.{{id}}
}}}} >/dev/null 2>&1 </dev/null &
"""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


async def _report(host: Tenant, script: Callable[[str], str], ledger: _Ledger, stop: asyncio.Event) -> None:
    with host.control.listening(ledger.heard) as identifier:
        await asyncio.to_thread(host.run, script(identifier))
        await stop.wait()
        end = f"{_NOW}; echo $now && cat {_TOLD}.{identifier} && rm -f {_MARK}.{identifier}"
        told = await asyncio.to_thread(host.run, end)
    ledger.close(told.stdout)
