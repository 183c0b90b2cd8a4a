"""Commands that fail or are killed have not answered: of what they are about nothing is known, and that is told."""

from __future__ import annotations

import re

import pytest

from bundle.errors import InfrastructureError
from harness.checks import judge
from harness.guest.collect import (
    ABSENT,
    Section,
    answered,
    collect,
    of_file,
    of_paths,
    of_program,
    unanswered,
)
from harness.guest.protocols import Guest
from harness.management import health
from harness.observe import observation
from tests.unit.harness.simulated_patch import failed_world, world

COMMANDS = observation.commands()
# A later observation asks for the journal's lines, too; without its cursor nothing is an observation.
LATER = observation.commands(world().case().before)


@pytest.mark.parametrize("name", [name for name in COMMANDS if not name.startswith("journal.")])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("make", [world, failed_world])
def test_a_program_that_fails_is_an_error_whatever_it_was_asked(make, moment: str, name: str) -> None:
    made = make()
    getattr(made, moment).texts[name] = None
    (outcome,) = judge(made.case(), only=["observed.whole"])
    when = {"before": "before the patch", "after": "after the rules were sent again"}[moment]
    assert outcome.verdict == "error"
    assert outcome.reason == f"the VM did not say {when}: {name} (status 1)"


@pytest.mark.parametrize("commands", [COMMANDS, LATER])
def test_no_command_of_an_observation_hides_that_it_failed(commands: dict[str, str]) -> None:
    assert [name for name, text in commands.items() if re.search(r"(;|\|\|)\s*(true|:)\s*$", text)] == []


def test_what_is_not_there_is_told_from_what_cannot_be_read(local_guest: Guest, tmp_path) -> None:
    there = tmp_path / "a file's name"
    there.write_text("text\n")
    commands = {
        "file.there": of_file(str(there)),
        "file.absent": of_file(str(tmp_path / "none")),
        "file.unreadable": of_file(str(tmp_path)),
        "program.there": of_program("cat", f"cat '{tmp_path}/a file'?'s name'"),
        "program.absent": of_program("no-such-program", "no-such-program"),
        "program.fails": of_program("sh", "sh -c 'exit 3'"),
        "program.killed": "kill -KILL $BASHPID",
        "program.claims": f"sh -c 'exit {ABSENT}'",
        "paths.some": of_paths((str(there), str(tmp_path / "none")), 'cat -- "$@"'),
        "paths.absent": of_paths((str(tmp_path / "none"),), 'cat -- "$@"'),
    }
    sections = collect(local_guest, commands)
    failed = {"file.unreadable": 1, "program.fails": 3, "program.killed": 137, "program.claims": ABSENT}
    assert unanswered(sections, commands) == failed
    shown = ("file.there", "program.there", "paths.some")
    assert {sections[name].text for name in shown} == {"text\n"}
    with pytest.raises(InfrastructureError, match=r"it did not say program\.fails \(status 3\)$"):
        answered(local_guest, {"program.fails": commands["program.fails"]})


def test_what_this_machine_is_asked_is_answered_or_absent(local_guest: Guest) -> None:
    # It need have neither systemd, nor a packet filter, nor modules: what remains must answer on any Linux.
    names = {
        "kernel.settings",
        "kernel.mounts",
        "kernel.clock",
        "services.groups",
        "sockets.unix",
        "sockets.raw",
    }
    names |= {"services.stat", "processes.files", "processes.commands", "processes.gone", "rules.dns"}
    commands = {name: COMMANDS[name] for name in names}
    sections = collect(local_guest, commands)
    assert unanswered(sections, commands) == {}
    assert sections["kernel.settings"].text.count("\n") > 500


def test_services_that_systemd_does_not_tell_are_not_taken_for_none_that_are_up(monkeypatch) -> None:
    told = {name: Section(name, 0, b"haproxy\n") for name in ("services.enabled", "services.units")}
    others = {name: Section(name, 0, b"") for name in COMMANDS if name.startswith("services.")}
    sections = others | told | {"services.units": Section("services.units", 1, b"")}
    monkeypatch.setattr("harness.guest.collect.collect", lambda *_, **__: sections)
    with pytest.raises(InfrastructureError, match=r"it did not say services\.units \(status 1\)"):
        health.active_services(type("Guest", (), {"name": "r-1-VM"})())
