"""The files in which messages travel, and what becomes of them in a guest."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import count
from pathlib import Path

import pytest

from bundle.errors import CheckFailed, InfrastructureError
from harness import network
from harness.network import Databag, Direct, Plug, Together

BAG = Databag("forwarding_rules", {"rules": [], "type": "forwardrules"})
TIER = Databag("guest_network", {"type": "guestnetwork"})
REFRESH = Databag(
    "monitor_service",
    {"type": "monitorservice"},
    delete_from_processed_cache=True,
    scripts=("/opt/cloud/bin/configure.py monitor_service.json",),
)
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def test_the_aggregate_file_is_the_one_of_the_server() -> None:
    numbers = count()
    made = network.aggregate([BAG, REFRESH], lambda: f"n{next(numbers)}")
    assert made.path == "/var/cache/cloud/VR-n2.cfg"
    assert made.command == "/opt/cloud/bin/vr_cfg.sh -c /var/cache/cloud/VR-n2.cfg"
    assert made.text == (
        "#Apache CloudStack Virtual Router Config File\n"
        "<version>\n1.0\n</version>\n"
        "<file>\n/var/cache/cloud/forwarding_rules.json.n0\n"
        '{"rules":[],"type":"forwardrules","delete_from_processed_cache":false}\n'
        "</file>\n"
        "<script>\n/opt/cloud/bin/update_config.py forwarding_rules.json.n0\n</script>\n"
        "<file>\n/var/cache/cloud/monitor_service.json.n1\n"
        '{"type":"monitorservice","delete_from_processed_cache":true}\n'
        "</file>\n"
        "<script>\n/opt/cloud/bin/update_config.py monitor_service.json.n1 false\n</script>\n"
        "<script>\n/opt/cloud/bin/configure.py monitor_service.json\n</script>\n"
    )
    assert made.kept == ("forwarding_rules.json.n0",)


def test_every_file_has_an_identifier_of_its_own() -> None:
    made = network.aggregate([BAG, BAG])
    found = re.findall(rf"VR-{UUID}|forwarding_rules\.json\.{UUID}", made.path + "".join(made.kept))
    assert len(made.kept) == len(set(made.kept)) == 2
    assert len(found) == 3


def test_text_is_not_escaped_beyond_what_json_needs() -> None:
    text = Databag("vm_metadata", {"a": "<é>\n"}).text()
    assert text == '{"a":"<é>\\n","delete_from_processed_cache":false}'
    assert json.loads(text)["a"] == "<é>\n"


class Answer:
    def __init__(self, status: int = 0, stdout: str = "", stderr: str = "") -> None:
        self.status, self.stdout, self.stderr, self.seconds = status, stdout, stderr, 0.5


class Router:
    """Stands in for a router: remembers what it is sent and answers what the test says."""

    name = "r-1-VM"

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.files: dict[str, tuple[bytes, int]] = {}
        self.happened: list[str] = []

    def run(self, command: str, **_: object) -> Answer:
        self.happened.append(command)
        return self.answers.pop(0)

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        self.files[path] = data, mode


def test_an_aggregate_is_sent_applied_and_looked_for() -> None:
    router = Router(Answer(), Answer())
    assert network.deliver(router, [Together((BAG, REFRESH))]).bags == 2
    ((path, (_, mode)),) = router.files.items()
    assert re.fullmatch(rf"/var/cache/cloud/VR-{UUID}\.cfg", path)
    assert mode == 0o600
    assert router.happened[0] == f"/opt/cloud/bin/vr_cfg.sh -c {path}"
    assert "forwarding_rules.json." in router.happened[1]
    assert "monitor_service" not in router.happened[1]  # the guest keeps no copy of it


def test_an_aggregate_of_nothing_must_be_taken_as_well() -> None:
    router = Router(Answer())
    assert network.deliver(router, [Together(())]).bags == 0
    assert [data for data, _ in router.files.values()] == [
        b"#Apache CloudStack Virtual Router Config File\n<version>\n1.0\n</version>\n"
    ]
    with pytest.raises(CheckFailed):
        network.deliver(Router(Answer(status=1)), [Together(())])


def test_a_swallowed_failure_is_found_out() -> None:
    router = Router(Answer(), Answer(stdout="load_balancer.json.7f-4\n"))
    with pytest.raises(CheckFailed, match=r"r-1-VM: load_balancer\.json\.7f-4 was not applied although"):
        network.deliver(router, [Together((BAG,))])


def test_a_failure_that_is_only_told_is_no_success() -> None:
    """CloudStack's own program puts the file that failed into the archive, and ends with 0."""
    said = (
        'VR config: execution failed: "/opt/cloud/bin/update_config.py x", check /var/log/cloud.log\nmore\n'
    )
    router = Router(Answer(stderr=said), Answer())
    with pytest.raises(CheckFailed, match="although the guest reported success: VR config: execution failed"):
        network.deliver(router, [Together((BAG,))])


def test_an_archive_that_cannot_be_listed_says_nothing() -> None:
    router = Router(Answer(), Answer(status=2, stderr="cd: processed: No such file"))
    with pytest.raises(InfrastructureError, match="cannot list /var/cache/cloud/processed"):
        network.deliver(router, [Together((BAG,))])


@pytest.mark.parametrize("step", [Together((BAG,)), Direct(BAG)])
def test_a_reported_failure_names_the_last_line(step: Together | Direct) -> None:
    router = Router(Answer(status=1, stderr="a\nKeyError: traffic_type\n"))
    with pytest.raises(CheckFailed, match="status 1: KeyError: traffic_type"):
        network.deliver(router, [step])


def test_a_single_file_is_applied_by_itself_with_its_scripts() -> None:
    router = Router(Answer(), Answer())
    network.deliver(router, [Direct(REFRESH)])
    ((path, (data, mode)),) = router.files.items()
    name = path.removeprefix("/var/cache/cloud/")
    assert re.fullmatch(rf"monitor_service\.json\.{UUID}", name)
    assert (data.decode(), mode) == (REFRESH.text(), 0o600)
    assert router.happened == [
        f"/opt/cloud/bin/update_config.py {name} false",
        "/opt/cloud/bin/configure.py monitor_service.json",
    ]


def test_a_script_that_fails_after_its_file_fails_the_step() -> None:
    router = Router(Answer(), Answer(status=1, stderr="no such key"))
    with pytest.raises(CheckFailed, match="applying monitor_service failed, status 1: no such key"):
        network.deliver(router, [Direct(REFRESH)])


def test_nics_are_plugged_in_between_the_files_that_speak_of_them() -> None:
    router = Router(Answer(), Answer())
    steps = [Plug("eth1"), Direct(BAG), Plug("eth2"), Direct(TIER)]
    network.deliver(router, steps, lambda step: router.happened.append(step.device))
    assert [word.partition(" ")[2].partition(".")[0] or word for word in router.happened] == [
        "eth1", "forwarding_rules", "eth2", "guest_network",
    ]  # fmt: skip
    with pytest.raises(InfrastructureError, match="nobody can plug in eth1 here"):
        network.deliver(router, steps)


def test_a_tier_that_the_guest_knows_may_stay_where_it_lies(tmp_path: Path) -> None:
    """The guest's own shell decides, so the question is put to one."""
    router = Router(Answer(), Answer())
    network.deliver(router, [Together((TIER, BAG))])
    asked = router.happened[1].replace("/var/cache/cloud", str(tmp_path))
    tier, other = (match.group() for match in re.finditer(rf"\w+\.json\.{UUID}", asked))
    (tmp_path / "processed").mkdir()

    def missing() -> list[str]:
        return subprocess.run(["sh", "-c", asked], capture_output=True, text=True, check=True).stdout.split()

    assert missing() == [tier, other]
    (tmp_path / tier).touch()
    (tmp_path / other).touch()
    assert missing() == [other]
    (tmp_path / "processed" / f"{other}.gz").touch()
    assert missing() == []
