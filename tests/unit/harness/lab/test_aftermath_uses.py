"""Answers of later uses: what a new machine is told, and what health checks say."""

from __future__ import annotations

import json
import subprocess
import time
from ipaddress import IPv4Address
from types import SimpleNamespace

import pytest

from bundle.errors import CheckFailed
from harness import network
from harness.checks import Outcome
from harness.kvmagent.patch import Versions
from harness.lab.aftermath import agents, run, stranger, upkeep, uses
from harness.lab.aftermath.uses import Use
from harness.lab.budgets import budget, stretched
from harness.machine.machine import Turns
from harness.network.flows import Flow
from harness.network.model import DeclaredMachine
from harness.network.transport import bags_of

MACHINE = DeclaredMachine("later", "02:00:26:c3:7f:fe", IPv4Address("10.1.1.253"), "#cloud-config\n", ())
WELL = {
    "lease": "10.1.1.253/24",
    "name": "Name: later\nAddress: 10.1.1.253",
    "user-data": "#cloud-config",
    "hostname": "later",
    "password": "K3y",
    "confirmed": "saved_password",
    "password-again": "saved_password",
}


def test_a_machine_that_is_told_everything_has_nothing_to_say() -> None:
    assert set(stranger.problems(WELL, MACHINE, "K3y").values()) == {""}


@pytest.mark.parametrize(
    ("answer", "text", "use"),
    [
        ("lease", "", "new machine gets its lease"),
        ("lease", "10.1.1.25/24", "new machine gets its lease"),
        ("name", "Name: later\nAddress: 10.1.1.25", "new machine is known by name"),
        ("user-data", "", "new machine gets its user data"),
        ("hostname", "vm1", "new machine gets its metadata"),
        ("password", "saved_password", "new machine gets its password once"),
        ("confirmed", "bad_request", "new machine gets its password once"),
        ("password-again", "K3y", "new machine gets its password once"),
    ],
)
def test_a_wrong_answer_is_told_by_its_use(answer: str, text: str, use: str) -> None:
    wrong = {
        name for name, problem in stranger.problems({**WELL, answer: text}, MACHINE, "K3y").items() if problem
    }
    assert wrong == {use}


def test_a_host_is_itself_again_after_its_visit() -> None:
    text = stranger.script(MACHINE.mac, stranger.questions(MACHINE, "10.1.1.1"))
    assert text.index(f"address {MACHINE.mac}") < text.index("address $own")
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0


def results(**rows: str) -> str:
    kinds = {
        kind: {
            "lastRun": {"start": "a", "end": "b", "duration": "1"},
            **{
                name: {"success": word, "message": "seen", "lastUpdate": "1000000"}
                for name, word in rows.items()
            },
        }
        for kind in ("basic", "advanced")
    }
    return "FAILING CHECKS:\nMONITOR RESULTS:\n" + json.dumps(kinds, indent=1)


@pytest.mark.parametrize("word", ["SUCCESS", "true"])
def test_health_checks_that_are_well_have_nothing_to_say(word: str) -> None:
    assert upkeep.read_health(0, results(dns_check=word)) == ""


@pytest.mark.parametrize(
    ("status", "output", "words"),
    [
        (0, results(dns_check="FAILED"), "dns_check says FAILED: seen"),
        (0, results(dns_check="UNKNOWN"), "dns_check says UNKNOWN"),
        (0, results(), "no basic check has a result"),
        (
            0,
            results(dns_check="true").replace("CHECKS:\n", "CHECKS:\ndns_check\n"),
            "dns_check is told to fail",
        ),
        (0, "FAILING CHECKS:\nMONITOR RESULTS:\n{", "the server cannot read the results"),
        (1, "Read-only file system", "ended with status 1 and said 'Read-only file system'"),
        (127, "", "ended with status 127"),
    ],
)
def test_health_checks_that_are_not_well_say_so(status: int, output: str, words: str) -> None:
    assert words in upkeep.read_health(status, output)


def test_results_of_before_they_were_asked_for_are_none() -> None:
    text = results(dns_check="true")
    assert upkeep.read_health(0, text, since=1000) == ""
    assert upkeep.read_health(0, text, since=1001) == "no basic check has a result"
    mixed = results(dns_check="true", disk="true").replace('"1000000"', '"1002000"', 1)
    assert upkeep.read_health(0, mixed, since=1001) == "no advanced check has a result"
    mixed = results(dns_check="true", disk="true").replace('"1000000"', '"1002000"')
    old = mixed[: mixed.rindex('"1002000"')] + mixed[mixed.rindex('"1002000"') :].replace("1002000", "5")
    assert upkeep.read_health(0, old, since=1001) == "disk has no result since it was asked for"


class Answers:
    """A guest that has one answer."""

    name = "vm"

    def __init__(self, status: int, stdout: str) -> None:
        self._done = SimpleNamespace(status=status, stdout=stdout, stderr="")

    def run(self, *_words: object, **_options: object) -> SimpleNamespace:
        return self._done


@pytest.mark.parametrize(
    ("status", "said", "wrong"),
    [(0, "Status: PRIMARY\n", ""), (0, "Status: BACKUP (bumped)", ""), (127, "", None)],
)
def test_a_role_that_the_server_can_read_is_well(status: int, said: str, wrong: str | None) -> None:
    assert upkeep.role(Answers(status, said), "4.22") == wrong


def test_a_role_that_the_server_cannot_read_is_told() -> None:
    assert upkeep.role(Answers(1, ""), "4.22") == "checkrouter.sh says '', status 1"
    old, new = Answers(0, "Status: MASTER\n"), Answers(0, "Status: PRIMARY\n")
    assert upkeep.role(old, "4.16") == "checkrouter.sh says 'Status: MASTER', status 0"
    assert upkeep.role(new, "4.15") == "checkrouter.sh says 'Status: PRIMARY', status 0"
    assert upkeep.role(old, "4.15") == ""


def test_logs_that_cannot_be_rotated_are_told_by_the_first_error() -> None:
    guest = Answers(1, "reading config\nerror: cloud:3 unknown option 'rotte'\n")
    assert upkeep.rotation(guest) == "logrotate ended with status 1: error: cloud:3 unknown option 'rotte'"
    assert upkeep.rotation(Answers(0, "")) == ""
    assert upkeep.rotation(Answers(127, "")) is None


def test_versions_that_are_not_the_bundles_are_told() -> None:
    guest = Answers(0, "Cloudstack Release 4.22.0&0123\n")
    assert upkeep.versions(guest, "0123") == (Versions("Cloudstack Release 4.22.0", "0123"), "")
    assert upkeep.versions(guest, "4567")[1] == "it says that it runs 0123…, not 4567…"
    assert "said 'nothing'" in upkeep.versions(Answers(0, "nothing"), "0123")[1]


class Agents:
    """A server's port for agents that are as they are told."""

    def __init__(self, answer: dict[str, object], later: str = "new") -> None:
        self._answer, self._later = answer, later
        self.latest = SimpleNamespace(guid="s-1", fingerprint="old")

    def ask(self, command: str, _deadline: float) -> dict[str, object]:
        assert command == "check_health"
        return self._answer

    def wait_for(self, guid: str, _deadline: float, since: float) -> SimpleNamespace:
        assert guid == "s-1"
        assert since > 0
        return SimpleNamespace(guid=guid, fingerprint=self._later)


def site(agents: Agents) -> SimpleNamespace:
    return SimpleNamespace(agents=agents, authority=SimpleNamespace(provision=lambda *_: None))


def test_an_agent_is_asked_how_it_is() -> None:
    assert agents.health(site(Agents({"result": True}))) == ""
    assert agents.health(site(Agents({"result": False, "details": "not well: nfs"}))) == (
        "the agent says 'not well: nfs'"
    )


def test_an_agent_must_show_the_certificate_that_it_was_given() -> None:
    assert agents.renewed(site(Agents({})), SimpleNamespace()) == ""
    told = agents.renewed(site(Agents({}, later="old")), SimpleNamespace())
    assert told == "the agent still shows its old certificate"


def judged(monkeypatch: pytest.MonkeyPatch, patched: Use, control: dict[str, str]) -> list[Outcome]:
    monkeypatch.setattr(run, "_make", lambda *_, **__: [patched])
    monkeypatch.setattr(run, "_control", lambda *_, **__: control)
    lab = SimpleNamespace(new=SimpleNamespace(name="4.22"), old=SimpleNamespace(name="4.21"))
    return run.outcomes(lab, SimpleNamespace(), "0123")


def test_what_fails_in_a_copy_that_nobody_patched_is_not_held_against_the_patch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (outcome,) = judged(
        monkeypatch, Use("health checks", "dns_check says FAILED"), {"health checks": "it says FAILED"}
    )
    assert (outcome.verdict, outcome.name) == ("skipped", "later.health checks")
    assert "it says FAILED" in outcome.reason


def test_what_fails_after_the_patch_alone_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    (outcome,) = judged(monkeypatch, Use("health checks", "dns_check says FAILED"), {"versions": "other"})
    assert (outcome.verdict, outcome.reason) == ("failed", "dns_check says FAILED")


@pytest.mark.parametrize(
    ("before", "after", "stretch"),
    [
        (Turns(10, 4), Turns(20, 4), 1.0),
        (Turns(10, 4), Turns(20, 14), 2.0),
        (Turns(10, 4), Turns(10, 9), 1.0),  # it had nothing to do
        (Turns(90, 40), Turns(2, 1), 1.0),  # it was switched off and on
        (Turns(0, 0), Turns(0, 0), 1.0),  # nobody could say
    ],
)
def test_a_busy_host_stretches_budgets_by_what_the_vm_waited(
    before: Turns, after: Turns, stretch: float
) -> None:
    assert after.stretch_since(before) == stretch
    assert stretched({"a": 4000.0}, after.stretch_since(before)) == {"a": 4000.0 * stretch}


def test_a_budget_follows_what_the_probe_saw_before_and_has_an_end() -> None:
    assert budget(2000, 8000, None) == 8000
    assert budget(2000, 8000, 0) == 2000
    assert budget(2000, 8000, 250) == 4000
    assert budget(2000, 8000, 5000) == 8000


def sends(monkeypatch: pytest.MonkeyPatch, broken: str) -> list[tuple[str, list[str]]]:
    """Let uses of a router send to nobody, and fail what has a file of a stem; returns what is sent, as it is."""
    sent: list[tuple[str, list[str]]] = []

    def deliver(_guest: object, steps: tuple[object, ...]) -> None:
        for step in steps:
            stems = [bag.stem for bag in bags_of([step])]
            sent.append((type(step).__name__, stems))
            if broken in stems:
                raise CheckFailed(f"{broken} is not in force")

    monkeypatch.setattr(uses, "deliver", deliver)
    monkeypatch.setattr(uses, "attempt", lambda _vm, flows: [""] * len(flows))
    monkeypatch.setattr(uses.stranger, "visit", lambda *_: {"new machine gets its lease": ""})
    monkeypatch.setattr(uses.stranger, "new_password", lambda *_: "")
    monkeypatch.setattr(uses.upkeep, "health", lambda _guest: "")
    return sent


class RouterWithHosts(SimpleNamespace):
    """A router, as a key of weak references."""

    __hash__ = object.__hash__


def later() -> uses.Later:
    tenants = dict.fromkeys(("vm1", "vm2", "internet"))
    guest = Answers(0, "Cloudstack Release 4.22.0&0123\n")
    vm = RouterWithHosts(name="r-10-VM", guest=guest, tenants={**tenants, "vm1": "a host"}, endpoints={})
    return uses.Later(vm, network.load("router"), "4.22", "0123")


def test_short_uses_send_twice_what_belongs_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = sends(monkeypatch, "nothing")
    found = {use.name: use.problem or use.skipped for use in later().short()}
    assert set(found.values()) == {""}
    assert [kind for kind, _stems in sent] == ["Together", "Together", "Direct"]
    assert {"a forward is changed", "a firewall rule is revoked", "a password is reset"} <= found.keys()


def test_what_is_to_blame_is_told_when_not_all_can_be_sent_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = sends(monkeypatch, "load_balancer")
    wrong = {use.name: use.problem for use in later().short() if use.problem}
    assert wrong == {"a balancer is changed": "load_balancer is not in force"}
    assert [kind for kind, _stems in sent] == ["Together", *["Direct"] * 7, "Together", "Direct"]


@pytest.mark.parametrize(
    ("seconds", "wrong"),
    [(0.3, set()), (99.0, {"a forward is added", "a balancer is changed", "a forward is changed"})],
)
def test_a_connection_that_is_not_at_once_as_declared_is_tried_again_for_some_seconds(
    monkeypatch: pytest.MonkeyPatch, seconds: float, wrong: set[str]
) -> None:
    sends(monkeypatch, "nothing")
    until = time.monotonic() + seconds

    def attempt(_vm: object, flows: list[Flow]) -> list[str]:
        return ["an old worker" if flow.allowed and time.monotonic() < until else "" for flow in flows]

    monkeypatch.setattr(uses, "attempt", attempt)
    monkeypatch.setattr(uses, "_PATIENCE", 1.0)
    monkeypatch.setattr(uses, "_PAUSE", 0.05)
    assert {use.name for use in later().short() if use.problem} == wrong
