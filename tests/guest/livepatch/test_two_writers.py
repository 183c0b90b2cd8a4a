"""Rules and patches write to the same VM: whatever point of a patch a rule arrives at, it is in force or refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.guest.livepatch import bundles, walk
from tests.guest.livepatch.folder_vm import JOURNAL

PAYLOAD = Path(__file__).resolve().parents[3] / "systemvm/debian/opt/cloud/bin/cloudrules"
SCRIPT = "/var/cache/cloud/patch-sysvms.sh"
# A rule as the payload's own engine applies it: under its lock, and refused where a patch died half way.
RULE = """
import sys
sys.path.insert(0, "/run/lab/payload")
from cloudrules import engine
with engine._locked(float(sys.argv[1])):
    engine._refuse_half_patched()
    for path in ("/etc/haproxy/haproxy.cfg", "/etc/cron.hourly/watch"):
        with open(path, "a") as file:
            file.write("# a rule\\n")
"""


def _ready(lab):
    shutil.copytree(PAYLOAD, lab.root / "run/lab/payload/cloudrules")
    (lab.root / "run/lab/rule.py").write_text(RULE)


def _finish(lab, command, **environment):
    stdout, stderr = lab.start("-c", command, **environment).communicate(timeout=60)
    return stdout.decode().split(), stderr.decode()


@pytest.mark.parametrize("story", ["patch", "rollback"])
def test_a_rule_that_arrives_during_a_patch_is_never_lost(stage, tally, request, story):
    stage.prepare("router")
    count = len(walk.points(stage, "router", story))
    numbers = range(2, count + 1, 1 if request.config.getoption("--full") else 7)
    tally("rule in the middle", len(numbers))
    for point in numbers:
        with stage.clone("router") as lab:
            _ready(lab)
            lab.land(walk.BUNDLE[story]())
            stopped = (
                "read -r worker </run/cloud-livepatch.lock; until grep -qs '^State:.T' /proc/$worker/status"
            )
            answer, errors = _finish(
                lab,
                f"bash {SCRIPT} >/run/lab/out & until [[ -s /run/cloud-livepatch.lock ]]; do sleep 0.02; done;"
                f"{stopped}; do sleep 0.02; done;"
                "python3 /run/lab/rule.py 30 & rule=$!; sleep 0.2; kill -CONT $worker;"
                "wait %1; echo $?; wait $rule; echo $?",
                LIVEPATCH_CRASH_AT=str(point),
                LIVEPATCH_CRASH_SIGNAL="STOP",
            )
            expected = "0" if story == "patch" else "1"
            assert answer == [expected, "0"], (point, answer, errors)
            for path in ("etc/haproxy/haproxy.cfg", "etc/cron.hourly/watch"):
                assert lab.read(path).endswith("# a rule\n"), (point, path)


def test_a_rule_is_refused_where_a_patch_died_half_way(lab):
    _ready(lab)
    count = len(lab_points(lab))
    lab.patch(bundles.new(), LIVEPATCH_CRASH_AT=str(count - 12))
    assert (lab.root / JOURNAL / "attempt/phase").exists()
    answer, errors = _finish(lab, "python3 /run/lab/rule.py 1; echo $?")
    assert answer == ["1"] and "--recover" in errors, errors


def lab_points(lab):
    """Return the crash points of a patch of a clone."""
    probe = lab.clone(lab.root.with_name(lab.root.name + "-points"))
    probe.patch(bundles.new(), LIVEPATCH_TRACE="/run/lab/trace")
    return probe.read("run/lab/trace").splitlines()


def test_a_patch_waits_for_rules_with_a_bound(lab):
    _ready(lab)
    lab.land(bundles.new())
    hold = "mkdir -p /run/cloud; exec 8>>/run/cloud/rules.lock; flock 8;"
    answer, errors = _finish(lab, f"{hold} bash {SCRIPT} 8>&-; echo $?", LIVEPATCH_RULES_LIMIT="1")
    assert answer == ["2"] and "rules are being applied" in errors, errors


def test_a_rule_waits_for_a_patch_with_a_bound(lab):
    _ready(lab)
    hold = "mkdir -p /run/cloud; exec 8>>/run/cloud/rules.lock; flock 8;"
    answer, errors = _finish(lab, f"{hold} python3 /run/lab/rule.py 0.2 8>&-; echo $?")
    assert answer == ["1"] and "try again later" in errors, errors
