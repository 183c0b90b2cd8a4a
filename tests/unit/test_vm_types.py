"""A VM type that nobody has heard of: served by its family where the catalogue has it, refused by name elsewhere."""

from __future__ import annotations

import ast
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bundle import catalogue
from bundle.build import BuildOptions, build
from bundle.errors import UsageError
from bundle.inspect.impact import PatchScript, affected, downtime, renewals
from bundle.paths import payload_root
from bundle.seal.script import ScriptSpec, render
from harness import network
from harness.checks import shipped
from harness.kvmagent.patch import load_bundle
from harness.lab import faults
from harness.lab.wish import Wish
from harness.management import NetworkRow, Refused, VpcRow
from harness.network.flows import flows
from harness.vm import types
from tests.unit.harness.simulator import NEW, OLD, Cloud

ROOT = Path(__file__).parents[2]
SERVICES = '\n[services.{0}]\nenabled = ["{1}"]\ndisabled = []\n'
# A type of each family, and the service that it offers.
ROUTER = (
    '[type.{0}]\nfamily = "router"\npatched_by = "restartNetwork"\nserves = "network"\napi = "ROUTER"\nalert = 9\n'
    'network = "router"\nhas = ["machines", "rules"]\n' + SERVICES
)
BALANCER = (
    '[type.{0}]\nfamily = "balancer"\npatched_by = "restartNetwork"\nserves = "network"\napi = "ROUTER"\nalert = 9\n'
    'network = "ilbvm"\n' + SERVICES
)
AGENT = (
    '[type.{0}]\nfamily = "agent"\npatched_by = "patchSystemVm"\nserves = "zone"\napi = "ROUTER"\nalert = 9\n'
    'has = ["agent"]\n' + SERVICES
)

Catalogued = Callable[[str], catalogue.Catalogue]


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Catalogued]:
    """Let everybody read a copy of the catalogue with tables of the test's own."""
    copy = tmp_path / "payload" / "releases.toml"
    copy.parent.mkdir()

    def add(text: str) -> catalogue.Catalogue:
        shutil.copyfile(payload_root() / "releases.toml", copy)
        with copy.open("a") as file:
            file.write("\n" + text)
        monkeypatch.setattr(catalogue, "payload_root", lambda: copy.parent)
        catalogue.load.cache_clear()
        return catalogue.load()

    yield add
    catalogue.load.cache_clear()


def cloud_of(kind: str, **row: object) -> Cloud:
    """Return a cloud with one VM of a type in the network ``net``."""
    cloud = Cloud()
    cloud.inventory.add(NetworkRow("net", declared=network.load()))
    cloud.vm("x-1-VM", kind, networks=("net",), **row)
    return cloud


def test_a_new_router_is_restarted_with_its_network_and_sent_its_rules(add: Catalogued) -> None:
    add(ROUTER.format("edge", "haproxy"))
    cloud = cloud_of("edge")
    done = cloud.server.restart_network("net", live_patch=True)
    assert [vm.vm for vm in done.vms] == ["x-1-VM"]
    assert done.rules == len(network.bags_of(network.Orders(network.load(), "4.22").reapply())) > 0
    with pytest.raises(Refused, match="x-1-VM is a edge"):
        cloud.server.patch_system_vm("x-1-VM")


def test_a_new_router_of_a_vpc_is_patched_with_it(add: Catalogued) -> None:
    add(ROUTER.format("edge", "haproxy").replace('serves = "network"', 'serves = "vpc"'))
    cloud = Cloud()
    cloud.inventory.add(VpcRow("vpc"), NetworkRow("tier", vpc="vpc"))
    cloud.vm("x-1-VM", "edge", vpc="vpc")
    assert [vm.vm for vm in cloud.server.restart_vpc("vpc", live_patch=True).vms] == ["x-1-VM"]


def test_a_new_balancer_is_patched_after_the_routers_and_sent_no_rules_of_theirs(add: Catalogued) -> None:
    add(BALANCER.format("splitter", "haproxy"))
    cloud = cloud_of("splitter")
    cloud.router("r-1-VM", networks=("net",))
    done = cloud.server.restart_network("net", live_patch=True)
    assert [vm.vm for vm in done.vms] == ["r-1-VM", "x-1-VM"]
    assert done.rules == len(network.bags_of(network.Orders(network.load(), "4.22").reapply()))
    own = network.load("ilbvm")
    declared = replace(own, type="splitter")
    assert list(flows(declared)) == list(flows(own)) != []
    assert not declared.serves_machines


def test_a_new_agent_vm_is_patched_by_its_own_call_and_no_restart(add: Catalogued) -> None:
    add(AGENT.format("telescope", "cloud"))
    cloud = cloud_of("telescope")
    assert cloud.server.restart_network("net", live_patch=True).vms == ()
    assert cloud.server.patch_system_vm("x-1-VM").changed
    assert cloud.guests["x-1-VM"].signature == NEW


def test_what_a_bundle_puts_into_a_new_type_follows_its_family(add: Catalogued, tmp_path: Path) -> None:
    add(ROUTER.format("edge", "haproxy") + AGENT.format("telescope", "cloud"))
    bundle = load_bundle(build(BuildOptions(output=tmp_path / "b", source=ROOT / "systemvm")).folder)
    as_router, as_agent = shipped.read(bundle, "edge"), shipped.read(bundle, "telescope")
    assert as_router == shipped.read(bundle, "router")
    assert as_agent == shipped.read(bundle, "secstorage") != as_router


def test_the_script_knows_a_new_type_and_what_it_has(add: Catalogued) -> None:
    facts = add(ROUTER.format("edge", "haproxy") + AGENT.format("telescope", "cloud"))
    text = render(ScriptSpec(facts.release("4.22"), "format\t1\n"))
    lists = dict(re.findall(r"([A-Z]+_TYPES)='([^']*)'", text))
    assert {name: words.split() for name, words in lists.items()} == {
        "VM_TYPES": list(facts.types),
        "AGENT_TYPES": ["secstorage", "consoleproxy", "telescope"],
        "CONSOLE_TYPES": ["consoleproxy"],
    }


def test_a_change_is_said_to_matter_to_a_new_type(add: Catalogued) -> None:
    facts = add(ROUTER.format("edge", "haproxy"))
    changed = [("cloud-scripts.tgz", "etc/haproxy/haproxy.cfg")]
    renewed = renewals(PatchScript("ours", policy="graceful"), changed, facts)
    readers, _strangers = affected(changed, renewed, facts)
    assert downtime(renewed, readers, facts)["edge"] == "reload"


def test_a_broken_bundle_breaks_the_service_of_a_new_type_or_refuses(add: Catalogued) -> None:
    add(ROUTER.format("edge", "dnsmasq") + AGENT.format("telescope", "ntp"))
    assert faults.breakable("edge").service == "dnsmasq"
    with pytest.raises(UsageError, match=r"no service of a telescope can be broken on purpose \(ntp\)"):
        faults.breakable("telescope")


def test_a_type_without_topology_is_refused_by_name(add: Catalogued) -> None:
    add(ROUTER.format("edge", "haproxy"))
    with pytest.raises(UsageError, match="VM type 'edge' has no topology"):
        types.of_type("edge")
    with pytest.raises(UsageError, match="VM type 'edge' has no topology"):
        Wish("edge", "4.21", "4.22").declared()


def test_a_network_can_be_declared_for_a_type_that_has_one(add: Catalogued) -> None:
    document = tomllib.loads((ROOT / "harness/network/shipped/router.toml").read_text())
    add(ROUTER.format("edge", "haproxy") + AGENT.format("telescope", "cloud"))
    assert network.parse({**document, "type": "edge"}).kind.family == "router"
    with pytest.raises(UsageError, match=r"invalid type 'telescope' \(expected one of router, .*edge"):
        network.parse({**document, "type": "telescope"})


@pytest.mark.parametrize(
    "act",
    [
        lambda cloud: cloud.server.restart_network("net", live_patch=True),
        lambda cloud: cloud.server.restart_vpc("vpc", live_patch=True),
        lambda cloud: cloud.server.patch_system_vm("x-1-VM"),
        lambda cloud: cloud.server.patch(cloud.inventory.vm("x-1-VM")),
        lambda _: types.of_type("gadget"),
        lambda _: Wish("gadget", "4.21", "4.22").declared(),
        lambda _: faults.breakable("gadget"),
        lambda _: catalogue.vm_type("gadget"),
        lambda _: shipped.read(None, "gadget"),
        lambda _: replace(network.load(), type="gadget").is_vpc,
        lambda _: list(flows(replace(network.load(), type="gadget"))),
    ],
)
def test_a_type_that_the_catalogue_does_not_have_is_an_error_everywhere(
    act: Callable[[Cloud], object],
) -> None:
    cloud = cloud_of("gadget", vpc="vpc")
    cloud.inventory.add(VpcRow("vpc"))
    with pytest.raises(UsageError, match=r"unknown VM type 'gadget' \(there are router, "):
        act(cloud)
    assert cloud.guests["x-1-VM"].signature == OLD


def test_a_vm_whose_type_nobody_has_told_is_patched_and_belongs_to_no_network() -> None:
    cloud = cloud_of(None)
    assert cloud.server.patch(cloud.inventory.vm("x-1-VM")).changed
    with pytest.raises(UsageError, match="x-1-VM: nobody has told the type"):
        cloud.server.restart_network("net", live_patch=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ROUTER.format("edge", "x").replace('"router"\np', '"ruter"\np'), "'edge'.*family is 'ruter'"),
        (ROUTER.format("edge", "x").replace('"rules"', '"wings"'), "'edge'.*it has 'wings'"),
        (ROUTER.format("edge", "x").replace("network =", "net ="), "'edge'.*unknown key 'net'"),
        (ROUTER.format("edge", "x").replace('"rules"', '"agent"'), "'edge'.*has an agent"),
        (ROUTER.format("edge", "x").split("\n[services")[0], r"'edge'.*no table \[services.edge\]"),
        (SERVICES.format("edge", "x"), r"\[services.edge\] of the catalogue is about no VM type"),
        (
            '[[matrix]]\nfrom = ".."\nto = ".."\nverdict = "no"\nreason = "r"\nsource = "s"\ntypes = ["edge"]',
            "matrix speaks of a VM type 'edge'",
        ),
    ],
)
def test_tables_that_do_not_fit_together_are_refused(add: Catalogued, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        add(text)


def test_no_module_knows_a_type_by_name() -> None:
    """Names of types stand in the catalogue, and in the topologies; ``router`` is the name of a family, too."""
    names = set(catalogue.load().types) - {"router"}
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"
        for folder in ("bundle", "harness")
        for path in (ROOT / folder).rglob("*.py")
        if path != ROOT / "harness/vm/types.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    templates = (ROOT / "bundle/templates").rglob("*.j2")
    found += [str(path) for path in templates if re.search(rf"\b({'|'.join(names)})\b", path.read_text())]
    assert found == []
