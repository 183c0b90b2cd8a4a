"""VM types as the guest's own programs know them, which cannot read the catalogue: they say the same."""

from __future__ import annotations

import re
import subprocess

import pytest

from bundle import catalogue
from bundle.paths import payload_root
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


@pytest.mark.parametrize("program", ["bootstrap.sh", "cloud-early-config", "postinit.sh"])
def test_the_boot_scripts_treat_the_types_with_an_agent_alike(program):
    (types,) = re.findall(r"^ +(secstorage\b[^)]*)\)", (SETUP / program).read_text(), re.MULTILINE)
    assert tuple(types.split(" | ")) == FACTS.types_that(have="agent")


@pytest.mark.parametrize("row", FACTS.types.values(), ids=FACTS.types)
def test_the_rules_treat_a_type_as_the_catalogue_says(row):
    seen = guest.module("topology").Topology(row.name, {}, "eth0", "", (), (), {})
    assert seen.is_vpc == (row.serves == "vpc")
    assert seen.routes == ("rules" in row.has)
    assert seen.serves_guests == ("machines" in row.has)
