"""The transaction on real machines: the power fails in a patch or a rollback, and the next boot ends old or new.

The lab in ``tests/guest/livepatch`` models power cuts at every crash point; these are samples of it. The script kills
itself at the point, the machine's process is killed before the guest has written anything else out, and the same disk
boots again. ``SYSVM_POWER_CUTS`` is the number of samples of each story; ``test_transaction_samples.py`` has the rest.
"""

from __future__ import annotations

import json
import os
import random

import pytest

from bundle.catalogue import load
from harness.checks import shipped
from harness.kvmagent import patch
from harness.lab.faults import power
from harness.observe import files

SEED = 20260722
CUTS = int(os.environ.get("SYSVM_POWER_CUTS", "1"))
# Where a story is stopped: between the first and the last change of the live system, give or take what comes before.
POINTS = {"patch": range(16, 34), "rollback": range(27, 42)}
SIGNATURE = "/var/cache/cloud/cloud-scripts-signature"
TRACE = "/run/livepatch-trace"
SCRIPT = "/var/cache/cloud/patch-sysvms.sh"
STATUS = "bash /var/lib/cloud-livepatch/patch-sysvms.sh --status"


def samples():
    for story, points in POINTS.items():
        draw = random.Random(f"{SEED} {story}")
        yield from ((story, point) for point in draw.sample(points, min(CUTS, len(points))))


def stop_at(guest, bundle, point):
    """Upload a bundle, and let its patch kill itself at a crash point."""
    patch.upload(guest, patch.read_files(bundle))
    knobs = f"LIVEPATCH_SOAK=1 LIVEPATCH_TRACE={TRACE} LIVEPATCH_CRASH_WHOLE=1 LIVEPATCH_CRASH_AT={point}"
    done = guest.run(f"{knobs} {SCRIPT}", deadline=300, check=False)
    number, phase, label = guest.run(f"tail -n 1 {TRACE}").stdout.rstrip("\n").split("\t")
    assert (done.status, int(number)) == (1, point), f"it ended at point {number} with {done}"
    return f"{phase}: {label}"


def telling(before, bundle):
    """Return what the patch changes among the files that a bundle brings and that neither boot nor rules write."""
    live = load().live_paths
    return {
        row.path: row
        for row in shipped.read(patch.load_bundle(bundle), "router").values()
        if row.kind == "file"
        and before.entries.get(row.path) is not None
        and before.entries[row.path].sha256 != row.sha256
        and not any(row.path.lstrip("/").startswith(path) for path in live)
    }


def side_of(guest, before, bundle, where):
    """Return whether the files of a VM are all old or all new; anything else fails the test."""
    after, expected = files.take(guest), telling(before, bundle)
    sides = {
        path: "new" if after.entries[path].sha256 == row.sha256 else "old"
        for path, row in expected.items()
        if path in after.entries and after.entries[path].sha256 in (row.sha256, before.entries[path].sha256)
    }
    assert expected, "the two releases do not differ"
    assert expected.keys() == sides.keys(), f"{where}: neither old nor new"
    assert len(set(sides.values())) == 1, f"{where}: {sides}"
    return set(sides.values()).pop()


def signatures_of(guest, bundle):
    """Return the signature that a VM has, and the one that a patch would give it."""
    return {
        "old": guest.run(f"cat {SIGNATURE}").stdout.strip(),
        "new": patch.load_bundle(bundle).signature,
    }


def require_settled(guest, side, signatures, old=("rolled-back",)):
    """Fail unless a VM of this side says so itself, and nothing of the patch is left over."""
    assert guest.run(f"cat {SIGNATURE}").stdout.strip() == signatures[side]
    # Before the first effect of the first run there is no script to ask.
    said = guest.run(STATUS, check=False).stdout or '{"state": "none"}'
    assert json.loads(said)["state"] in {"old": old, "new": ("committed",)}[side]
    assert guest.run("ls -d /.cloud-livepatch /var/lib/cloud-livepatch/attempt", check=False).stdout == ""


@pytest.mark.parametrize(("story", "point"), list(samples()))
def test_a_power_cut_ends_old_or_new(lab, nothing_left, record_property, story, point):
    bundle = lab.new_bundle if story == "patch" else lab.broken_bundle()
    with lab.system_vm(f"cut-{story}-{point}") as vm:
        before = files.take(vm.guest)
        signatures = signatures_of(vm.guest, bundle)
        where = stop_at(vm.guest, bundle, point)
        power.boot_again(vm)

        record_property("stopped", where)
        side = side_of(vm.guest, before, bundle, f"stopped at {where}")
        assert side == "old" or "commit" in where
        require_settled(vm.guest, side, signatures)
        assert vm.guest.run("systemctl is-failed cloud-livepatch-recover.service", check=False).status != 0

        patch.upload(vm.guest, patch.read_files(lab.new_bundle))
        done = vm.guest.run(f"LIVEPATCH_SOAK=1 {SCRIPT}", deadline=300, check=False)
        healthy = patch.load_bundle(lab.new_bundle).signature
        assert (done.status, done.stdout) == (0, f"version:{healthy} \n"), done
