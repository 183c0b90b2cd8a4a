"""The words of a VM: rules are stored as they were sent, one that fails is told, and so is a boot without end.

And the word that it gives after a start by the next release: which scripts it runs.
"""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from bundle import catalogue
from harness import checks, network
from harness.kvmagent import patch
from harness.lab.boots import COMES_UP
from harness.lab.faults import power
from harness.network.transport import Aggregate, Databag, aggregate, bags_of
from harness.observe import observation
from harness.scenario import Lab, SshCommandResult, SshGuest, Trial
from harness.vm.boot import CMDLINE_FILE
from harness.vm.restart import RebootFailed

_ARCHIVE = "/var/cache/cloud/processed"
_DONE = "/var/cache/cloud/boot_up_done"
# Words of a person in which two blanks and a lone star mean something.
_WORDS = "Small  Instance * (2  cores)"


@pytest.mark.scenario(
    "S61-rules-told-truly",
    types=catalogue.load().types_that(have="machines"),
    why="only routers are sent rules of machines",
)
def test_rules_are_stored_as_they_were_sent_and_failures_told(lab: Lab, live_patch: Trial) -> None:
    """A text with two blanks arrives as it was sent; a rule file that cannot be applied is told. Before any patch."""
    assert lab.network is not None  # noqa: S101 - a type with machines has a network
    orders = network.Orders(lab.network, lab.old.name, int(time.time() * 1000))
    original = next(bag for bag in bags_of(orders.start()) if bag.stem == "vm_metadata")
    worded = replace(original, content={**original.content, "vm_metadata": _worded(original)})
    guest = live_patch.vm.guest
    sent, done = _apply(guest, [worded])
    live_patch.require(
        "rules.taken", "" if done.status == 0 else f"a sound rule file is refused: {done.stderr}"
    )
    stored = guest.run(f"gzip -dc {_ARCHIVE}/{sent.kept[0]}.gz", check=False).stdout.rstrip("\n")
    same = _WORDS in stored
    live_patch.require("rules.as-sent", "" if same else _altered(stored))
    # A rule without any of its fields, and after it a rule file that is sound.
    broken = Databag("firewall_rules", {"type": "firewallrules", "rules": [{"id": 7}]})
    sent, done = _apply(guest, [broken, original])
    live_patch.require("rules.failure-told", "" if done.status else _untold(guest, sent))
    live_patch.send_rules()
    live_patch.prove_rules()


@pytest.mark.scenario("S61-unfinished-boot-told")
def test_a_vm_whose_boot_does_not_end_names_no_version(live_patch: Trial) -> None:
    """Without the mark of a boot that is done, the question for the versions fails after the minutes that it waits."""
    guest = live_patch.vm.guest
    guest.run(f"mv {_DONE} /run/boot_up_done")
    asked = guest.run("/opt/cloud/bin/get_template_version.sh", deadline=900, check=False)
    guest.run(f"mv /run/boot_up_done {_DONE}")
    told = asked.stdout.strip()
    answered = asked.status == 0 and "&" in told
    live_patch.require(
        "version.boot-unfinished",
        f"the boot has not ended, and the VM answers {told[:60]!r}, which a server takes for the truth"
        if answered
        else "",
    )


@pytest.mark.scenario("S62-started-by-the-next-release")
def test_a_vm_that_the_next_release_starts_runs_its_scripts(lab: Lab, live_patch: Trial) -> None:
    """Stopped, and started by a server of the next release, which hands it its files: it runs them, and says so."""
    if (lab.old.transport, lab.new.transport) != ("upload", "upload"):
        pytest.skip(f"the files of {lab.new.name} come on a CD, which this VM does not have")
    files, guest, printed = live_patch.files(lab.new_bundle), live_patch.vm.guest, live_patch.printed()
    cmdline = guest.run(f"cat {CMDLINE_FILE}").stdout
    try:
        power.reboot(live_patch.vm, cmdline, lambda: patch.upload(guest, files.contents))
    except RebootFailed as error:
        live_patch.require(COMES_UP, str(error))
        return
    told = patch.ask_versions(guest).scripts
    live_patch.require(
        "start.new-scripts",
        ""
        if told == files.signature
        else f"started with the files of {lab.new.name}, it says that it runs {told[:16]}…, as before",
    )
    if told != files.signature:
        return
    seen = observation.observe(guest)
    case = live_patch.case_of(files, "patched", (seen, seen, seen), printed)
    live_patch.note(
        [replace(row, name=f"start.{row.name}") for row in checks.judge(case, only=("files.installed",))]
    )


def _worded(bag: Databag) -> list[list[str | None]]:
    """Return rows of metadata in which the service offering has the words."""
    rows: list[list[str | None]] = bag.content["vm_metadata"]
    return [[*row[:2], _WORDS] if row[1] == "service-offering" else row for row in rows]


def _apply(guest: SshGuest, bags: list[Databag]) -> tuple[Aggregate, SshCommandResult]:
    """Send rule files in one aggregate and have them applied; returns it, and how the VM's program ended."""
    sent = aggregate(bags)
    guest.put(sent.data, sent.path, mode=0o600)
    return sent, guest.run(sent.command, deadline=600, check=False)


def _altered(stored: str) -> str:
    if not stored:
        return "the rule file is not in the archive of those that were applied"
    words = stored.partition('"service-offering","')[2].partition('"')[0]
    return f"a text was sent as {_WORDS!r} and is stored as {words!r}"


def _untold(guest: SshGuest, sent: Aggregate) -> str:
    """Return what the status 0 hides: the rule file that failed, and those that were left out after it."""
    names = guest.run(f"ls {_ARCHIVE}").stdout.split()
    left = [name.partition(".json")[0] for name in sent.kept if f"{name}.gz" not in names]
    skipped = f", and {', '.join(left)} not applied" if left else ""
    return f"a rule file that cannot be applied ends with status 0: the server believes that it is in force{skipped}"
