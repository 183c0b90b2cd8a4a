"""VMs with an agent: the console answers again, the storage stays mounted, and the server sees the same agent."""

from __future__ import annotations

import pytest

from harness.lab import Lab
from harness.traffic import Traffic
from harness.trial import Trial

_PORT_FILE = "/root/vncport"
_MOUNT = "/mnt/SecStorage/0f9d6c1e"
# Writes ten lines a second, each with its time; says when a write fails.
_WRITER = f"while :; do date +%s.%N >>{_MOUNT}/written || echo failed >>/run/writer-failed; sleep 0.1; done"


@pytest.mark.scenario(
    "S16-console-port-answers", types=("consoleproxy",), why="only a console proxy has a console port"
)
def test_the_console_answers_and_its_rules_stand_once(lab: Lab, live_patch: Trial) -> None:
    """Patched twice: the console still opens, the port file is the same, and no firewall rule stands there twice."""
    guest = live_patch.vm.guest
    look = f"cat {_PORT_FILE} 2>/dev/null; iptables -S INPUT"
    before = guest.run(look).stdout
    live_patch.require("console.before", _console(live_patch))
    live_patch.patch(lab.new_bundle)
    live_patch.require("console.after", _console(live_patch))
    live_patch.patch(lab.new_bundle, forced=True)
    live_patch.require("console.after-second", _console(live_patch))
    after = guest.run(look).stdout
    changes = set(before.splitlines()) ^ set(after.splitlines())
    same = before == after
    live_patch.require("console.rules", "" if same else f"port or rules differ: {sorted(changes)}")


def _console(trial: Trial) -> str:
    """Open consoles for a moment, once the agent is there; return what is wrong, or nothing."""
    if trial.vm.site is None:
        return "nobody plays the management network"
    trial.vm.site.connected()
    with Traffic(trial.probes()) as traffic:
        trial.vm.guest.run("sleep 2")
    results = [result for result in traffic.results if result.name.startswith("console")]
    if not results:
        return "nobody asked for a console"
    (result,) = results
    opened = result.sent - result.lost
    return (
        "" if opened and opened >= result.sent - 1 else f"{opened} of {result.sent} opened: {result.reason}"
    )


@pytest.mark.scenario(
    "S26-storage-stays-mounted", types=("secstorage",), why="only secondary storage has mounts"
)
def test_storage_stays_mounted_and_writable(lab: Lab, live_patch: Trial) -> None:
    """A program writes to a mount all through the patch; a file system in memory stands in for the NFS share."""
    guest = live_patch.vm.guest
    guest.run(f"mkdir -p {_MOUNT} && mount -t tmpfs stand-in {_MOUNT}")
    guest.run(f"nohup sh -c '{_WRITER}' >/dev/null 2>&1 </dev/null & echo $! >/run/writer.pid")
    mounted = f"awk '$5 == \"{_MOUNT}\" {{ print $1 }}' /proc/self/mountinfo"
    before = guest.run(mounted).stdout
    live_patch.require("storage.mounted-before", "" if before else "it is not mounted")
    live_patch.patch(lab.new_bundle)
    after = guest.run(mounted).stdout
    live_patch.require(
        "storage.mounted-after", "" if after == before else "it is mounted anew, or not at all"
    )
    live_patch.require("storage.writable", "" if _writes_on(live_patch) else "nothing is written any more")
    failed = guest.run("cat /run/writer-failed 2>/dev/null | wc -l").stdout.strip()
    live_patch.require("storage.written", "" if failed == "0" else f"{failed} writes failed")
    longest = float(
        guest.run(
            f"awk 'NR > 1 && $1 - last > gap {{ gap = $1 - last }} {{ last = $1 }} END {{ print gap + 0 }}' "
            f"{_MOUNT}/written"
        ).stdout
    )
    limit = 5.0
    live_patch.require("storage.gap", "" if longest <= limit else f"no write for {longest:.1f} s")
    link = live_patch.cases[-1].agent
    away = link.away if link else -1.0
    lab.events.emit(
        "agent", scenario=live_patch.scenario, away_seconds=away, limit_seconds=link.limit if link else 0
    )


def _writes_on(trial: Trial) -> bool:
    count = f"wc -l <{_MOUNT}/written"
    done = trial.vm.guest.run(f"a=$({count}); sleep 1; b=$({count}); [ $b -gt $a ]", check=False)
    return done.status == 0
