"""The patch of a router on a virtual machine, against the rival that does what CloudStack 4.22's script does.

Both patch restores of the same golden snapshot from the default release to the newest, while HTTP requests go through
the load balancer. Time is the guest's own, from start to end of the script; the soak time is 0, as the rival has none.
A request is lost when it is refused, broken off or not answered. Written bytes are those that all processes of a run
handed to the kernel, pipes among them. A second patch of each kind has no service to restart: what is left is the cost
of the script itself. Nothing else should run meanwhile; ``SYSVM_BENCH_RUNS`` is the number of runs of each (3).
"""

from __future__ import annotations

import os
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bundle import catalogue
from harness import boot, results
from harness.events import EventLog
from harness.lab import Lab, Wish, open_lab
from harness.traffic import HttpProbe, ProbeResult, Traffic

LEGACY = Path(__file__).resolve().parents[1] / "legacy" / "patch-sysvms.sh"
RATE = 20.0  # requests in a second: what an emulated router can answer
RUNS = int(os.environ.get("SYSVM_BENCH_RUNS", "3"))
SCRIPT = "/var/cache/cloud/patch-sysvms.sh"
CLOCK = "read now _ </proc/uptime; echo $now"
WRITTEN = "while read -r key value; do [[ $key != wchar: ]] || echo $value; done </proc/$$/io"
TIMED = f"{CLOCK}; LIVEPATCH_SOAK=0 bash {SCRIPT} >/dev/null; status=$?; {CLOCK}; {WRITTEN}; exit $status"
# A service that is not active on this router: neither script restarts it.
NOTHING_TO_RESTART = "echo conntrackd >/var/cache/cloud/enabled_svcs"


@dataclass(frozen=True)
class Sample:
    """One run: seconds, bytes written, and what the requests through the load balancer saw."""

    seconds: float
    written: float
    seen: ProbeResult


def _measure(lab: Lab, script: str, number: int, *, restarts: bool) -> Sample:
    with lab.system_vm(f"bench-{script}-{number}-{'whole' if restarts else 'bare'}") as vm:
        if not restarts:
            vm.guest.run(NOTHING_TO_RESTART)
        boot.upload(vm.guest, lab.new_bundle)
        if script == "rival":
            vm.guest.put(LEGACY.read_bytes(), SCRIPT, 0o755)
        network = lab.network
        assert network is not None
        (balancer, *_) = network.load_balancers
        port = vm.endpoints[(str(balancer.public), balancer.port)]
        with Traffic([HttpProbe("load balancer", "127.0.0.1", port, expect=b"tenant", rate=RATE)]) as traffic:
            began, ended, written = map(float, vm.guest.run(TIMED, deadline=600).stdout.split())
        (seen,) = traffic.results
    return Sample(ended - began, written, seen)


def _row(what: str, ours: list[float], rival: list[float]) -> None:
    mine, other = statistics.median(ours), statistics.median(rival)
    ratio = f"{mine / other:.2f}" if other else "-"
    print(f"{what:28} ours {mine:12,.2f}   rival {other:12,.2f}   ratio {ratio}", flush=True)


def main() -> None:
    """Print medians and ratios."""
    facts = catalogue.load()
    wish = Wish("router", facts.default_from, facts.default)
    samples: dict[tuple[str, bool], list[Sample]] = {
        (script, restarts): [] for restarts in (True, False) for script in ("ours", "rival")
    }
    with tempfile.TemporaryDirectory(prefix="sysvm-bench-") as folder:
        record = results.create(Path(folder))
        with EventLog(record.events) as events, open_lab(wish, record, events) as lab:
            for number in range(RUNS):
                for (script, restarts), runs in samples.items():
                    runs.append(_measure(lab, script, number, restarts=restarts))
    bare = ([run.seconds for run in samples[script, False]] for script in ("ours", "rival"))
    ours, rival = samples["ours", True], samples["rival", True]
    _row("seconds", [run.seconds for run in ours], [run.seconds for run in rival])
    _row("seconds without restarts", *bare)
    _row("bytes written", [run.written for run in ours], [run.written for run in rival])
    _row("requests lost", [run.seen.lost for run in ours], [run.seen.lost for run in rival])
    gaps = [[run.seen.longest_gap_ms for run in runs] for runs in (ours, rival)]
    _row("longest gap, ms", *gaps)


if __name__ == "__main__":
    main()
