"""VM types as the guest's own programs know them, which cannot read the catalogue: they say the same."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from bundle import catalogue
from bundle.paths import payload_root
from bundle.vm_types import VmType
from tests.unit.payload import guest

FACTS = catalogue.load()
SETUP = payload_root() / "debian/opt/cloud/bin/setup"


def test_the_boot_scripts_know_every_type():
    source = f'. {SETUP}/common.sh; printf "%s\\n" "$VM_TYPES"'
    done = subprocess.run(["bash", "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(FACTS.types)


@pytest.mark.parametrize("name", FACTS.types)
def test_every_type_has_its_services_and_its_packet_filter(name):
    assert (SETUP / f"{name}.sh").is_file()
    assert (payload_root() / f"debian/etc/iptables/iptables-{name}").is_file()


@pytest.mark.parametrize("row", FACTS.types.values(), ids=FACTS.types)
def test_the_rules_treat_a_type_as_the_catalogue_says(row):
    seen = guest.module("topology").Topology(row.name, {}, "eth0", "", (), (), {})
    assert seen.is_vpc == (row.serves == "vpc")
    assert seen.routes == ("rules" in row.has)
    assert seen.serves_guests == ("machines" in row.has)


@dataclass(frozen=True)
class Place:
    """A place of the guest's programs that names types: where, in which function or for which name, and which."""

    file: str
    scope: str
    types: tuple[str, ...]


WORD = re.compile(rf"(?<![\w./$-])({'|'.join(FACTS.types)})(?![\w./-])")


def shell_places() -> Iterator[Place]:
    """Yield the lines of the shell programs, comments aside, that name types."""
    for path in sorted(payload_root().rglob("*")):
        if not path.is_file() or not path.read_bytes().startswith((b"#!/bin/bash", b"#!/bin/sh")):
            continue
        scope = ""
        for line in path.read_text(encoding="utf-8").splitlines():
            if begun := re.match(r"(\w+)\(\) \{", line):
                scope = begun[1]
            elif line == "}":
                scope = ""
            if (types := WORD.findall(re.sub(r"(^|\s)#.*", "", line))) and not line.lstrip().startswith(
                "log "
            ):
                yield Place(str(path.relative_to(payload_root())), scope, tuple(types))


def python_places() -> Iterator[Place]:
    """Yield the displays and comparisons of the Python programs that name types."""
    for path in sorted(payload_root().rglob("*.py")):
        name = str(path.relative_to(payload_root()))
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            yield from _python_places(name, statement, _scope(statement, ""))


def _scope(node: ast.AST, scope: str) -> str:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return node.name
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    return ast.unparse(target) if target is not None and not scope else scope


def _python_places(file: str, node: ast.AST, scope: str) -> Iterator[Place]:
    named = [
        inner.value
        for inner in ast.iter_child_nodes(node)
        if isinstance(inner, ast.Constant) and inner.value in FACTS.types
    ]
    if named and isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict | ast.Compare):
        yield Place(file, scope, tuple(named))
    for inner in ast.iter_child_nodes(node):
        yield from _python_places(file, inner, _scope(inner, scope))


Rule = Callable[[VmType], bool]
BIN = "debian/opt/cloud/bin"


def having(part: str) -> Rule:
    return lambda row: part in row.has


def only(name: str) -> Rule:
    """A peculiarity of one type, which CloudStack's management server has for no other."""
    return lambda row: row.name == name


def isolated(row: VmType) -> bool:
    return "rules" in row.has and row.serves == "network"


def first_nic_is_control(row: VmType) -> bool:
    return "agent" in row.has or row.nics_later


def without_rules(row: VmType) -> bool:
    return "machines" in row.has and "rules" not in row.has


# Every place of the guest that names types, and by which facts of the catalogue a type belongs there.
PLACES: dict[tuple[str, str], tuple[Rule, ...]] = {
    (f"{BIN}/setup/bootstrap.sh", "main"): (having("agent"),),
    (f"{BIN}/setup/cloud-early-config", "installed_is_whole"): (having("agent"),),
    (f"{BIN}/setup/common.sh", ""): (lambda _row: True,),
    (f"{BIN}/setup/common.sh", "control_device"): (first_nic_is_control,),
    (f"{BIN}/setup/common.sh", "load_base_firewall"): (without_rules, having("console")),
    (f"{BIN}/setup/inner.sh", "inner_routes"): (having("agent"),),
    (f"{BIN}/setup/network.sh", "gateway_device"): (only("elbvm"),),
    (f"{BIN}/setup/network.sh", "device_mtu"): (having("storage"), without_rules),
    (f"{BIN}/setup/postinit.sh", "main"): (having("agent"),),
    (f"{BIN}/cloudrules/commandline.py", "_ROUTERS"): (lambda row: row.family == "router",),
    (f"{BIN}/cloudrules/commandline.py", "_ISOLATED"): (
        lambda row: row.family == "router" and row.serves == "network",
    ),
    (f"{BIN}/cloudrules/commandline.py", "_REDUNDANT"): (having("rules"),),
    (f"{BIN}/cloudrules/commandline.py", "_AGENTS"): (having("agent"),),
    (f"{BIN}/cloudrules/commandline.py", "(_VPC, _STORAGE, _CONSOLE)"): (
        lambda row: row.serves == "vpc", having("storage"), having("console"),
    ),
    (f"{BIN}/cloudrules/commandline.py", "_RULED"): (lambda row: row.family == "balancer",),
    (f"{BIN}/cloudrules/commandline.py", "TABLE"): (only("ilbvm"), only("elbvm"), isolated, having("console")),
    (f"{BIN}/cloudrules/merge.py", "_roles"): (lambda row: row.nics_later or "storage" in row.has,),
    (f"{BIN}/cloudrules/merge.py", "control_device"): (first_nic_is_control,),
    (f"{BIN}/cloudrules/topology.py", "is_vpc"): (lambda row: row.serves == "vpc",),
    (f"{BIN}/cloudrules/topology.py", "routes"): (having("rules"),),
    (f"{BIN}/cloudrules/topology.py", "serves_guests"): (having("machines"),),
    (f"{BIN}/cloudrules/topology.py", "_outside6"): (isolated,),
    (f"{BIN}/cloudrules/topology.py", "_first_guest"): (isolated,),
}  # fmt: skip
NAMED = defaultdict(set)
for place in (*shell_places(), *python_places()):
    NAMED[place.file, place.scope].add(frozenset(place.types))


def missing(facts: catalogue.Catalogue) -> dict[tuple[str, str], set[frozenset[str]]]:
    """Return the places whose lists are not those that the catalogue asks for, and the lists that are missing."""
    wanted = {
        where: {frozenset(row.name for row in facts.types.values() if rule(row)) for rule in rules}
        for where, rules in PLACES.items()
    }
    return {where: lists - NAMED[where] for where, lists in wanted.items() if lists != NAMED[where]}


def test_every_list_of_types_is_the_one_that_the_catalogue_asks_for():
    assert set(NAMED) == set(PLACES)
    assert missing(FACTS) == {}


def test_the_lists_that_lack_a_new_type_are_found():
    balancer = replace(FACTS.types["ilbvm"], name="splitter")
    facts = replace(FACTS, types={**FACTS.types, "splitter": balancer})
    assert missing(facts) == {
        (f"{BIN}/setup/common.sh", ""): {frozenset(facts.types)},
        (f"{BIN}/cloudrules/commandline.py", "_RULED"): {frozenset({"ilbvm", "elbvm", "splitter"})},
    }
    storage = replace(FACTS.types["secstorage"], name="cellar")
    found = missing(replace(FACTS, types={**FACTS.types, "cellar": storage}))
    assert {scope for _file, scope in found} >= {"main", "_AGENTS", "control_device", "device_mtu", "_roles"}
