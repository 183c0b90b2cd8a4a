"""The command that serves the API: where it may listen, whom it tells its keys, and which VMs it finds."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result
from cs import CloudStack

from bundle.errors import SysvmError, UsageError
from harness.cli import _fleet, sysvm
from harness.cli._fleet import ServedFleet
from harness.guest.guest import SshGuest
from harness.kept import reboot as kept_reboot
from harness.management import NetworkRow, Target, Vm, VpcRow
from harness.management.api import history
from harness.management.api.jobs import Job
from tests.unit.harness.simulator import Cloud


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("harness.cli.serve.load_bundle", lambda folder: Cloud().bundle)
    monkeypatch.setattr(_fleet, "all_kept", list)
    monkeypatch.setattr(_fleet, "_running", frozenset)
    monkeypatch.setattr("harness.cli.serve._until_interrupted", lambda server, service: None)
    return ["serve", "--bundle", "b", "--state", str(tmp_path / "state"), "--port", "0"]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(sysvm, list(arguments), standalone_mode=False)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            ["--address", "0.0.0.0"],
            "other machines can reach 0.0.0.0 (that takes --expose, and --certificate",
        ),
        (["--address", "0.0.0.0", "--expose"], "that takes --expose, and --certificate"),
        (["--address", "::"], "other machines can reach ::"),
        (["--address", "here"], "invalid address 'here'"),
        (["--certificate", "c.pem"], "--certificate and --certificate-key belong together"),
        (["--certificate", "c.pem", "--certificate-key", "k.pem"], "c.pem: no such file"),
        (["--ssh", "nonsense", "--ssh-key", "k"], "no private key at k"),
        (["--faithful", "4.16"], "CloudStack 4.16 has no live patch"),
        (["--release", "9.9"], "'9.9'"),
        (["--ui", "nowhere"], "no index.html in it"),
        (["nobody"], "no VM named 'nobody'"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(options: list[str], more: list[str], words: str) -> None:
    outcome = call(*options, *more)
    assert isinstance(outcome.exception, UsageError)
    assert words in outcome.exception.diagnostics()
    assert "password" not in outcome.output


def test_the_keys_are_told_once_and_are_their_owners_alone(options: list[str], tmp_path: Path) -> None:
    outcome = call(*options, "--json")
    assert outcome.return_value == 0
    told = json.loads(outcome.stdout)
    kept = tmp_path / "state/keys.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert json.loads(kept.read_text()) == told
    assert [account["role"] for account in told["accounts"]] == ["Admin", "DomainAdmin", "User"]
    again = json.loads(call(*options, "--json").stdout)
    secrets = {
        account[kind]
        for one in (told, again)
        for account in one["accounts"]
        for kind in ("secret", "password")
    }
    assert len(secrets) == 12  # new ones at each start


def test_a_person_is_told_how_to_call_it(options: list[str]) -> None:
    said = call(*options).stdout
    assert "the page; http://127.0.0.1:" in said
    assert "export CLOUDSTACK_ENDPOINT=http://127.0.0.1:" in said


def test_a_second_server_of_the_same_folder_is_refused(
    options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    second: list[Result] = []
    monkeypatch.setattr(
        "harness.cli.serve._until_interrupted", lambda server, service: second.append(call(*options))
    )
    assert call(*options).return_value == 0
    assert isinstance(second[0].exception, SysvmError)
    assert "another 'sysvm serve' uses" in str(second[0].exception)


def test_a_port_that_is_taken_is_told(options: list[str]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        outcome = call(*options[:-1], str(taken.getsockname()[1]))
    assert isinstance(outcome.exception, SysvmError)
    assert "name a free port with --port" in outcome.exception.diagnostics()


def test_a_server_that_is_terminated_ends_with_status_0(tmp_path: Path) -> None:
    script = (
        "import sys; from tests.unit.harness.simulator import Cloud; from harness.cli import _fleet, main, serve;"
        "serve.load_bundle = lambda folder: Cloud().bundle; _fleet.all_kept = list; _fleet._running = frozenset;"
        f"sys.argv[1:] = ['serve', '--bundle', 'b', '--port', '0', '--json', '--state', {str(tmp_path)!r}]; main()"
    )
    root = Path(__file__).parents[4]
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=root, stderr=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        said = ""
        while not said.endswith("\n}\n"):
            said += server.stdout.readline()
        assert requests.get(json.loads(said)["url"], timeout=10).status_code == 200
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0


_BUSY = """
import sys, threading
from tests.unit.harness.simulator import Cloud
from harness.cli import _fleet, main, serve
cloud = Cloud()
cloud.vm("s-1-VM", "secstorage").waits_for = threading.Event()
serve.load_bundle = lambda folder: cloud.bundle
_fleet.ServedFleet.rows = lambda self: list(cloud.inventory.vms.values())
sys.argv[1:] = ["serve", "--bundle", "b", "--port", "0", "--json", "--state", sys.argv[1]]
main()
"""


def test_who_interrupts_twice_leaves_the_job_and_the_next_start_lists_it_as_failed(tmp_path: Path) -> None:
    root = Path(__file__).parents[4]
    with subprocess.Popen(
        [sys.executable, "-c", _BUSY, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        stderr=subprocess.PIPE,
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        said = ""
        while not said.endswith("\n}\n"):
            said += server.stdout.readline()
        told = json.loads(said)
        client = CloudStack(
            told["api"], key=told["accounts"][0]["apikey"], secret=told["accounts"][0]["secret"]
        )
        job = client.patchSystemVm(id=client.listSystemVms()["systemvm"][0]["id"])["jobid"]
        server.send_signal(signal.SIGTERM)
        assert "waiting for 1 jobs in progress; interrupt once more" in server.stderr.readline()
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 130
    journal, rows = history.open_journal(tmp_path / "journal.jsonl")
    journal.close()
    assert [(row.id, row.status) for row in rows if isinstance(row, Job)] == [(job, 0)]


# The VMs behind it


def kept(tmp_path: Path, name: str, vm_type: str) -> Any:
    folder = tmp_path / "run" / name
    folder.mkdir(parents=True)
    (tmp_path / "run" / "kept.json").write_text("{}")
    return SimpleNamespace(
        name=name, run="r1", vm_type=vm_type, network=None, label="a template", folder=str(folder), source="a snapshot",
        domain=lambda: f"sysvm-r1-{name}", guest=lambda: Connected(name),
    )  # fmt: skip


class Connected:
    """A connection to a kept VM that notes what is asked of it."""

    def __init__(self, name: str) -> None:
        self.name, self.told = name, list[str]()

    def reboot(self) -> None:
        self.told.append("reboot")

    def close(self) -> None:
        self.told.append("close")


def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vm_type: str) -> list[Vm | NetworkRow | VpcRow]:
    monkeypatch.setattr(_fleet, "all_kept", lambda: [kept(tmp_path, "mine", vm_type)])
    monkeypatch.setattr(_fleet, "_running", lambda: frozenset({"sysvm-r1-mine"}))
    return list(ServedFleet((), ()).rows())


def test_a_kept_router_serves_a_network_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vm, network = rows(tmp_path, monkeypatch, "router")
    assert isinstance(vm, Vm)
    assert isinstance(network, NetworkRow)
    assert (vm.state, vm.networks) == ("Running", (network.id,))
    assert (network.name, network.owner) == ("mine-network", "user")
    assert network.declared is not None
    assert vm.location.control.startswith("169.254.")


def test_a_kept_vpc_router_serves_a_vpc_with_its_tiers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm, vpc, *tiers = rows(tmp_path, monkeypatch, "vpcrouter")
    assert isinstance(vm, Vm)
    assert isinstance(vpc, VpcRow)
    assert vm.vpc == vpc.id
    assert tiers
    assert {tier.vpc for tier in tiers if isinstance(tier, NetworkRow)} == {vpc.id}
    assert len({row.id for row in (vm, vpc, *tiers)}) == 2 + len(tiers)


def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **facts: object) -> tuple[ServedFleet, Any]:
    """Return a fleet of one storage VM that is off, and its row."""
    made = SimpleNamespace(**{**vars(kept(tmp_path, "mine", "secstorage")), **facts})
    monkeypatch.setattr(_fleet, "all_kept", lambda: [made])
    monkeypatch.setattr(_fleet, "_running", frozenset)
    fleet = ServedFleet((), ())
    (vm,) = fleet.rows()
    return fleet, vm


def test_a_kept_storage_vm_serves_no_network_and_is_rebooted_by_its_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebooted: list[Any] = []
    monkeypatch.setattr(kept_reboot, "reboot", lambda kept, guest: rebooted.append((kept.name, guest)))
    fleet, vm = served(tmp_path, monkeypatch)
    assert isinstance(vm, Vm)
    assert vm.state == "Stopped"
    fleet.reboot(vm)
    assert rebooted == [("mine", vm.guest)]
    assert vm.guest.told == []
    assert vm.eyes.told == ["close"]


def test_a_kept_vm_whose_disk_has_no_name_any_more_reboots_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, vm = served(tmp_path, monkeypatch, source="")
    fleet.reboot(vm)
    assert vm.guest.told == ["reboot"]


def test_a_vm_of_somebody_else_reboots_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(SshGuest, "reboot", lambda guest: told.append(guest.name))
    monkeypatch.setattr(_fleet, "_type_of", lambda _guest: "secstorage")
    monkeypatch.setattr(_fleet, "all_kept", list)
    monkeypatch.setattr(_fleet, "_running", frozenset)
    theirs = SshGuest("theirs", "192.0.2.1", 3922, Path("key"))
    fleet = ServedFleet((), (Target("theirs", theirs),))
    (vm,) = fleet.rows()
    assert isinstance(vm, Vm)
    fleet.reboot(vm)
    assert told == ["theirs"]


def test_only_the_vms_that_are_named_are_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fleet, "all_kept", lambda: [kept(tmp_path, "mine", "secstorage")])
    monkeypatch.setattr(_fleet, "_running", frozenset)
    assert ServedFleet(("other",), ()).rows() == []
