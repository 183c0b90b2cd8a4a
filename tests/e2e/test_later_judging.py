"""The judge sees later uses, too: payloads that are patched in without a finding, and of which one use is broken."""

from __future__ import annotations

from harness.lab.aftermath.uses import Later
from tests.mutants.vm import break_uses, broken_uses

# Its rows do not hide each other; the other groups are tried in namespaces.
GROUP = 2


def test_broken_later_uses_are_caught_and_the_patch_itself_is_not_blamed(lab, live_patch, tmp_path):
    live_patch.probing = False
    rows = [row for row in broken_uses() if row.group == GROUP]

    answer = live_patch.patch(break_uses(lab.new_bundle, tmp_path / "bundle", rows))

    assert answer.patched, answer
    assert live_patch.failures == []
    later = Later(live_patch.vm, lab.network, lab.new.name, answer.scripts_version)
    told = {use.name: use.problem for use in later.short()}
    missed = [row.name for row in rows if row.words not in told.get(row.use, "")]
    assert missed == [], told
