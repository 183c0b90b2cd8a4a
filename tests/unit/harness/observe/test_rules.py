"""Rule sets before and after: what is drawn by lot or merely unknown is no difference, everything else is."""

from __future__ import annotations

import json

import pytest

from harness.guest.collect import Section
from harness.observe import rules

SET = (
    "create sourceCidrIpset-1 hash:net family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x{lot}\n"
    "add sourceCidrIpset-1 10.1.1.0/24\n"
)


def compared(name: str, before: str, after: str) -> list[str]:
    """Return the differences that are told of two outputs of a command."""
    sets = [
        rules.parse({f"rules.{name}": Section(f"rules.{name}", 0, text.encode())})[name]
        for text in (before, after)
    ]
    return rules.compare(*sets)


def test_a_set_that_was_made_anew_is_the_same_set() -> None:
    assert compared("ipset", SET.format(lot="9d3c41aa"), SET.format(lot="17")) == []


@pytest.mark.parametrize("change", [("10.1.1.0/24", "10.1.0.0/16"), ("hash:net", "hash:ip"), ("1024", "64")])
def test_a_set_that_is_another_one_is_told(change: tuple[str, str]) -> None:
    assert compared("ipset", SET.format(lot="1"), SET.format(lot="2").replace(*change))


LEASE = "1769817600 02:00:26:c3:00:02 10.1.1.50 vm1 {client}\n"
KNOWN = LEASE.format(client="01:02:00:26:c3:00:02")
UNKNOWN = LEASE.format(client="*")


@pytest.mark.parametrize(("before", "after"), [(KNOWN, UNKNOWN), (UNKNOWN, KNOWN), (KNOWN, KNOWN)])
def test_a_client_that_one_side_does_not_know_is_no_other_client(before: str, after: str) -> None:
    assert compared("leases", before, after) == []


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (LEASE.format(client="ff:01"), "+ 02:00:26:c3:00:02 10.1.1.50 vm1 ff:01"),
        (UNKNOWN.replace("10.1.1.50", "10.1.1.51"), "+ 02:00:26:c3:00:02 10.1.1.51 vm1 *"),
        (UNKNOWN.replace("vm1", "vm2"), "+ 02:00:26:c3:00:02 10.1.1.50 vm2 *"),
        ("", "- 02:00:26:c3:00:02 10.1.1.50 vm1 01:02:00:26:c3:00:02"),
        (UNKNOWN + UNKNOWN.replace("10.1.1.50", "10.1.1.9"), "+ 02:00:26:c3:00:02 10.1.1.9 vm1 *"),
    ],
)
def test_another_client_address_or_name_is_told(after: str, told: str) -> None:
    assert told in compared("leases", KNOWN, after)


ETH2 = """[{"ifname": "eth2", "flags": ["UP", "LOWER_UP"], "mtu": 1500, "addr_info": [
    {"family": "inet", "local": "192.0.2.10", "prefixlen": 24, "scope": "global", "valid_life_time": 7}]}]"""


@pytest.mark.parametrize(
    ("name", "before", "after", "told"),
    [
        (
            "addresses", ETH2, ETH2.replace("192.0.2.10", "192.0.2.11"),
            ["- interface eth2 has address 192.0.2.10/24: family inet, scope global",
             "+ interface eth2 has address 192.0.2.11/24: family inet, scope global"],
        ),
        (
            "addresses", ETH2, ETH2.replace("1500", "576"),
            ["- interface eth2: flags UP and LOWER_UP, mtu 1500", "+ interface eth2: flags UP and LOWER_UP, mtu 576"],
        ),
        ("addresses", ETH2, ETH2.replace(": 7", ": 5"), []),
        (
            "routes", '[{"dst": "default", "gateway": "192.0.2.1", "dev": "eth2", "flags": []}]', "[]",
            ["- route to default: dev eth2, gateway 192.0.2.1"],
        ),
        (
            "policy", "[]", '[{"priority": 9, "src": "10.1.1.0", "srclen": 24, "table": "T2"}]',
            ["+ rule 9: src 10.1.1.0, srclen 24, table T2"],
        ),
    ],
)  # fmt: skip
def test_interfaces_addresses_and_routes_are_told_in_words(
    name: str, before: str, after: str, told: list[str]
) -> None:
    assert compared(name, before, after) == told


def test_ipsec_is_compared_without_keys_and_what_is_drawn_anew() -> None:
    text = (
        "src 10.1.1.0/24 dst 10.9.0.0/16 \n\tdir out priority 375423 \n\ttmpl src 192.0.2.10 dst 198.51.100.7\n"
        "\t\tproto esp spi 0x{0} reqid 1 mode tunnel\n"
        "src 192.0.2.10 dst 198.51.100.7\n\tproto esp spi 0x{0} reqid 1 mode tunnel\n\tenc cbc(aes) 0x{0}\n"
    )
    one, other = (rules.canonical_xfrm(text.format(drawn)) for drawn in ("c0ffee", "decade"))
    assert one == other
    assert one == [
        "dir out priority 375423",
        "src 10.1.1.0/24 dst 10.9.0.0/16",
        "src 192.0.2.10 dst 198.51.100.7",
        "tmpl src 192.0.2.10 dst 198.51.100.7",
    ]


def test_queues_are_compared_without_how_many_use_them() -> None:
    one, other = (
        rules.canonical_shaping(f"qdisc fq_codel 0: dev eth0 root refcnt {n} limit 10240p\n") for n in (2, 3)
    )
    assert one == other == ["qdisc fq_codel 0: dev eth0 root limit 10240p"]
    assert rules.canonical_shaping("qdisc tbf 1: dev eth0 root rate 1Mbit\n") != one


def remembered(**entry: object) -> rules.RuleSet:
    text = json.dumps({"eth2": [{"public_ip": "192.0.2.10", "add": True, **entry}], "id": "ips"})
    sections = {"rules.remembered": Section("rules.remembered", 0, text.encode())}
    return rules.parse(sections)["remembered"]


def test_what_scripts_remember_of_an_address_may_become_more_and_not_other():
    assert rules.compare(remembered(), remembered(mtu=1500)) == []
    assert rules.compare(remembered(mtu=1500), remembered(mtu=1400)) == [
        "- eth2 192.0.2.10: mtu = 1500", "+ eth2 192.0.2.10: mtu = 1400"
    ]  # fmt: skip
    assert rules.compare(remembered(mtu=1500), remembered()) == ["- eth2 192.0.2.10: mtu = 1500"]
    other = remembered(public_ip="192.0.2.11")
    assert "+ eth2 192.0.2.11: public_ip = 192.0.2.11" in rules.compare(remembered(), other)
    assert rules.RuleSet("remembered", ("unreadable: '{'",)) == rules.parse(
        {"rules.remembered": Section("rules.remembered", 0, b"{")}
    )["remembered"]  # fmt: skip
