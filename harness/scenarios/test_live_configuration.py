"""The configuration that boot, rules and operators wrote into the VM is still there afterwards."""

from __future__ import annotations

import shlex

import pytest

from bundle import catalogue
from harness.kvmagent import patch
from harness.scenario import Lab, PatchAnswer, Trial


@pytest.mark.scenario("S08-live-config-kept")
def test_keeps_live_configuration_that_was_changed_by_hand(lab: Lab, live_patch: Trial) -> None:
    """Every live file, changed by hand before the patch, is the same right after it, before any rule is sent."""
    live_patch.brief = True
    guest = live_patch.vm.guest
    files = live_patch.files(lab.new_bundle)
    live = " ".join(shlex.quote(f"/{path}") for path in catalogue.load().live_paths if not path.endswith("/"))
    add = 'grep -q . "$f" && echo \'# changed by hand\' >>"$f"'
    guest.run(f"for f in {live}; do [ ! -f $f ] || {add}; done; true")
    digests = f"sha256sum {live} 2>/dev/null; true"
    before = guest.run(digests).stdout
    after = ""

    def act() -> PatchAnswer:
        nonlocal after
        answer = patch.patch(guest, files)
        after = guest.run(digests).stdout
        return answer

    changed = guest.run(f"grep -l '# changed by hand' {live} 2>/dev/null; true").stdout
    live_patch.require("live.there", "" if before else "the VM has no live configuration at all")
    live_patch.require("live.changed", "" if changed else "nothing could be changed by hand")
    live_patch.watch(files, act)
    differ = sorted(set(before.splitlines()) ^ set(after.splitlines()))
    live_patch.require("live.same", f"changed: {', '.join(line[66:] for line in differ)}" if differ else "")
