"""The checks catch what they are for: mutants of a good patch and of a good rollback, each with a human reason."""

from __future__ import annotations

import pytest

from harness.checks import checks
from tests.unit.harness.checks.mutants import PATCH_MUTANTS, ROLLBACK_MUTANTS
from tests.unit.harness.simulated_patch import (
    IPTABLES,
    failed_world,
    world,
)


def test_a_good_patch_has_nothing_wrong() -> None:
    assert world().found() == {}


def test_a_good_rollback_has_nothing_wrong() -> None:
    assert failed_world().found() == {}


@pytest.mark.parametrize("mutant", PATCH_MUTANTS)
def test_a_mutant_of_the_patch_is_caught(mutant: str) -> None:
    mutate, check, words = PATCH_MUTANTS[mutant]
    made = world()
    mutate(made)
    found = made.found()
    assert check in found
    assert words in found[check]
    assert "\n" not in found[check]


@pytest.mark.parametrize("mutant", ROLLBACK_MUTANTS)
def test_a_mutant_of_the_rollback_is_caught(mutant: str) -> None:
    mutate, check, words = ROLLBACK_MUTANTS[mutant]
    made = failed_world()
    mutate(made)
    found = made.found()
    assert check in found
    assert words in found[check]


def test_every_check_has_a_mutant_that_it_catches() -> None:
    caught = {row[1] for row in (*PATCH_MUTANTS.values(), *ROLLBACK_MUTANTS.values())}
    rule_sets = {known.name for known in checks() if known.name.startswith("rules.")}
    assert {known.name for known in checks()} - rule_sets <= caught


@pytest.mark.parametrize(
    "name",
    [
        "legacy",
        "shaping",
        "xfrm",
        "neighbours",
        "ip6tables",
        "ipset",
        "nft",
        "policy",
        "policy6",
        "dns",
        "dnsmasq",
        "metadata-access",
        "vpn",
    ],
)
def test_every_rule_set_is_compared(name: str) -> None:
    made = world()
    for moment, text in (("before", "src a\n"), ("patched", "src a\n"), ("after", "src b\n")):
        getattr(made, moment).texts[f"rules.{name}"] = text
    if name == "ip6tables":
        made.before.texts["rules.ip6tables"] = made.patched.texts["rules.ip6tables"] = IPTABLES
    assert f"rules.{name}" in made.found()
