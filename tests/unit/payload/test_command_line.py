"""The parameters of the command line: the table of the guest, its code and its documentation say the same."""

import re

import pytest

from bundle import catalogue
from tests.unit.payload import guest

DOCUMENT = guest.SYSTEMVM.parent / "docs" / "payload.md"
ROW = re.compile(r"^\| `([^`]+)` \| (.*?) \| (.+) \|$")
PLACES = {"setup": guest.PROGRAMS, "cloudrules": guest.PROGRAMS, "agent": guest.SYSTEMVM}
SUFFIX = r"(ip6prelen|ip6|ip|mask)"
# How the boot scripts, the rules and the agent ask for a parameter by its name.
READS = [
    re.compile(r"CMDLINE\[([A-Za-z][A-Za-z0-9_.]*)\]"),
    re.compile(r'\b(?:config|values)(?:\.get\(|\[)"([A-Za-z][A-Za-z0-9_.]*)"'),
]
READS_OF_INTERFACES = [
    re.compile(r"CMDLINE\[(?:eth)?\$\{\w+\}" + SUFFIX + r"\]"),
    re.compile(r"CMDLINE\[\$\{1\}" + SUFFIX + r"\]"),
    re.compile(r"\bconfig\.get\((?:\w+ \+ \"|f\"eth\{\w+\})" + SUFFIX + r"\""),
]


def table():
    return {row.name: row for row in guest.module("commandline").TABLE}


def documented():
    """Return who reads each parameter and to what effect, out of the document."""
    text = DOCUMENT.read_text().partition("## Command line")[2].partition("\n## ")[0]
    found = [match.groups() for match in map(ROW.match, text.splitlines()) if match]
    return {name: (re.findall(r"`([^`]+)`", readers), effect) for name, readers, effect in found}


def sources():
    """Return the programs that may read a parameter, by the name that the document uses."""
    found = {}
    for folder, root in PLACES.items():
        for path in (root / folder).rglob("*"):
            if path.is_file() and path.suffix in (".py", ".sh", ""):
                found[str(path.relative_to(root))] = path.read_text()
    del found["cloudrules/commandline.py"]
    return found


def reads():
    """Return each parameter that a program asks for by name, with the program."""
    found = set()
    for name, text in sources().items():
        found |= {(word, name) for pattern in READS for word in pattern.findall(text)}
        found |= {(f"eth#{word}", name) for pattern in READS_OF_INTERFACES for word in pattern.findall(text)}
    return {(re.sub(r"^eth\d(?=ip|mask)", "eth#", word), name) for word, name in found}


def test_the_document_has_a_row_for_every_parameter_and_no_other():
    assert list(documented()) == list(table())


@pytest.mark.parametrize("name", table())
def test_a_parameter_has_readers_or_a_reason_why_not(name):
    readers, effect = documented()[name]
    assert bool(readers) != effect.startswith("not there: ")
    word = name.removeprefix("eth#")
    for reader in readers:
        assert re.search(
            r"(?<![A-Za-z0-9.])(?:eth\d)?" + re.escape(word) + r"(?![A-Za-z0-9])", sources()[reader]
        ), reader


def test_no_program_reads_a_parameter_that_the_document_does_not_tell_of():
    found = reads()
    assert ("dhcprange", "cloudrules/parts/dhcp.py") in found
    assert ("eth#ip", "setup/network.sh") in found
    assert [
        f"{name} reads {word}"
        for word, name in sorted(found)
        if name not in documented().get(word, ([], ""))[0]
    ] == []


def test_a_malformed_value_is_left_out_and_the_others_count(capsys, monkeypatch):
    monkeypatch.setattr(guest.module("system"), "LOG", guest.PROGRAMS / "no-such-folder" / "log")
    words = {
        "type": "router",
        "eth0ip": "10.1.1.1",
        "eth2mask": "255.0.255.0",
        "dns1": "null",
        "domain": "a b",
    }
    secret = {"router_password": "se cret"}
    assert guest.module("commandline").check({**words, **secret, "of_a_later_release": "x"}) == {
        "type": "router",
        "eth0ip": "10.1.1.1",
        "of_a_later_release": "x",
    }
    said = capsys.readouterr().err
    assert "eth2mask is left out: not a netmask" in said
    assert "router_password is left out: it is malformed" in said
    assert "se cret" not in said


@pytest.mark.parametrize("words", [{}, {"type": "null"}, {"type": ""}, {"name": "x"}, [], "type=router"])
def test_a_command_line_that_names_no_type_is_refused(words):
    with pytest.raises(guest.module("errors").Refused):
        guest.module("commandline").check(words)


def test_the_numbers_of_a_real_password_of_a_pair_are_kept():
    digits = str(2**512 - 1)
    assert (
        guest.module("commandline").check({"type": "vpcrouter", "router_password": digits})["router_password"]
        == digits
    )


def test_catalogue_and_guest_agree_since_when_a_parameter_is_sent():
    releases = catalogue.load().releases.values()
    names = {name for release in releases for name in release.unsent}
    assert names
    for name in names:
        first = tuple(map(int, guest.module("commandline").find(name).since.split(".")[:2]))
        assert {one.name for one in releases if name in one.unsent} == {
            one.name for one in releases if one.number < first
        }, name
