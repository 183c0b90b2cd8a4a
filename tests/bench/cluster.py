"""The cost of hosts: stand-ins that sleep, made by two workers of one machine and by two hosts with a core each.

What differs between the two is what the engine, the dealing and the way of news and logs take.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.cluster import RUN, STAND_INS, Cluster, Host, outcome

# The median of the scenarios that were recorded is 32 s (tests/data/scenario-seconds.toml); shorter ones cost more.
SECONDS = float(os.environ.get("SYSVM_BENCH_STAND_IN", "20"))
COUNT = 12


def _spent(pids: list[int], words: bytes) -> float:
    """Return the processor seconds of the processes whose command line has some words; those of children apart."""
    total = 0.0
    for pid in pids:
        folder = Path(f"/proc/{pid}")
        if words in (folder / "cmdline").read_bytes():
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def _alone(host: Host, results: Path) -> float:
    """Return the seconds of a run by two workers of one machine."""
    started = time.monotonic()
    words = ["--scenario=sleep", "-n", "2", f"--results={results}"]
    status, _, errors = outcome(host.popen(RUN, str(STAND_INS), *words), 7200)
    if status:
        raise SystemExit(errors)
    return time.monotonic() - started


def main() -> None:
    """Print the seconds of both runs, and what the engine's processes took."""
    if os.geteuid() != 0:
        print("network namespaces need root: not measured")
        return
    folder = Path(f"/tmp/sysvm-bench-{os.getpid()}")
    with Cluster(folder, ["h1", "h2"]) as cluster:
        for number, host in enumerate(cluster.hosts.values()):
            host.cores = str(number % (os.cpu_count() or 1))
            host.environment["STAND_IN_SECONDS"] = str(SECONDS)
        cluster.middle.environment["STAND_IN_SECONDS"] = str(SECONDS)
        cluster.start("h1", "h2")
        hosts = (cluster.middle, *cluster.hosts.values())
        before = sum(_spent(host.pids(), b"worker") for host in hosts)
        started = time.monotonic()
        status, _, errors = outcome(cluster.run("--scenario=sleep"), 7200)
        if status:
            raise SystemExit(errors)
        there = time.monotonic() - started
        engine = sum(_spent(host.pids(), b"worker") for host in hosts) - before
        here = _alone(cluster.middle, folder / "alone")
    print(
        f"{COUNT} stand-ins of {SECONDS:g} s each, two at a time; nothing is quicker than {COUNT * SECONDS / 2:g} s"
    )
    print(f"  two workers of one machine     {here:7.1f} s")
    print(f"  two hosts with a core each     {there:7.1f} s   {100 * (there / here - 1):+.1f} %")
    print(f"  scheduler and hosts themselves {engine:7.1f} s of processor, {engine / COUNT:.2f} s a scenario")


if __name__ == "__main__":
    main()
