"""The model of what management sends: the corpus passes it, what departs from it is named, the guest takes it all."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.payload import corpus, guest

WRONG = {"string": 7, "number": "seven", "boolean": "yes", "list": {}, "object": []}


def model():
    return guest.module("messages")


def keys_of(document):
    return {key.name: key for key in model().MODELS[document["type"]].keys}


@pytest.mark.parametrize("name", corpus.MESSAGES)
def test_a_message_of_the_corpus_is_as_a_server_sends_it(name):
    assert model().strange(corpus.MESSAGES[name], corpus.release(name)) == []


@pytest.mark.parametrize("name", corpus.MESSAGES)
def test_the_guest_takes_a_message_of_the_corpus_and_ignores_keys_that_it_does_not_know(name):
    plain = corpus.MESSAGES[name]
    newer = json.loads(json.dumps(plain), object_hook=lambda row: {**row, "of_a_later_release": [1]})
    if plain["type"] in ("monitorservice", "bgppeers"):  # objects with keys of the user's own
        newer = {**plain, "of_a_later_release": [1]}
    assert model().parse(json.dumps(newer)) == model().parse(json.dumps(plain))


@pytest.mark.parametrize("name", corpus.MESSAGES)
def test_a_value_of_another_type_is_strange_and_named(name):
    document = corpus.MESSAGES[name]
    for key in keys_of(document).values():
        if key.name in document:
            found = model().strange({**document, key.name: WRONG[key.shape.wire]}, corpus.release(name))
            assert [line for line in found if line.startswith(f"{document['type']}.{key.name}: ")]


@pytest.mark.parametrize("name", corpus.MESSAGES)
def test_a_message_without_what_it_is_about_is_refused_by_the_name_of_the_field(name):
    document = corpus.MESSAGES[name]
    needed = [key.name for key in keys_of(document).values() if key.presence == "needed"]
    for key in needed:
        without = {other: value for other, value in document.items() if other != key}
        with pytest.raises(
            guest.module("errors").Refused, match=f"{document['type']}: the field '{key}' is missing"
        ):
            model().check(without)
        assert model().strange(without, corpus.release(name))


def test_every_type_has_a_message_in_the_corpus():
    assert {message["type"] for message in corpus.MESSAGES.values()} == set(model().MODELS) - {"cmdline"}


@pytest.mark.parametrize(
    ("release", "sent"),
    [
        ("4.18.0", False),
        ("4.19.1", False),
        ("4.19.2", True),
        ("4.20.0", False),
        ("4.20.1", True),
        ("4.22", True),
    ],
)
def test_the_sources_of_a_forwarding_are_sent_by_some_lines_of_releases_only(release, sent):
    found = model().strange(corpus.MESSAGES["pf-empty-cidrs"], release)
    assert (found == []) == sent
    assert (model().strange(corpus.MESSAGES["pf-old"], release) == []) == (not sent)


def test_a_server_does_not_send_a_message_before_its_first_release():
    assert model().strange(corpus.MESSAGES["bgp"], "4.19.3") == ["4.19.3 does not send bgppeers yet"]


def test_a_type_of_a_newer_server_is_unknown_and_no_fault_of_the_message():
    with pytest.raises(guest.module("errors").Unknown, match="quantumrules"):
        model().check({"type": "quantumrules", "rules": []})


@pytest.mark.parametrize("depth", [2_000, 100_000])
@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_json_that_is_nested_too_deeply_is_refused(depth, opened, closed):
    with pytest.raises(guest.module("errors").Refused, match=r"nested too deeply|not a JSON object|no type"):
        model().parse(opened * depth + "0" + closed * depth)


@settings(max_examples=500)
@given(data=st.data())
def test_whatever_stands_in_a_field_is_taken_or_refused_but_never_a_crash(data):
    document = copy.deepcopy(corpus.MESSAGES[data.draw(st.sampled_from(sorted(corpus.MESSAGES)))])
    rubbish = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=2),
    )
    place = data.draw(st.sampled_from(places(document)))
    parent = document
    for step in place[:-1]:
        parent = parent[step]
    parent[place[-1]] = data.draw(rubbish)
    try:
        model().parse(json.dumps(document))
    except guest.module("errors").Refused as error:
        assert "\n" not in str(error)


def places(value, path=()):
    """Return the path of every value inside a message."""
    found = [path] if path else []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [place for key, inner in pairs for place in places(inner, (*path, key))]


@pytest.mark.parametrize(
    "end", ["\n", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
)
@pytest.mark.parametrize(
    "document",
    [
        {"type": "vmpassword", "ip_address": "10.1.1.5", "password": "a{}10.1.1.6=b"},
        {"type": "vmdata", "vm_ip_address": "10.1.1.5", "vm_metadata": [["password", "vm-password", "a{}10.1.1.6=b"]]},
        {"type": "vmdata", "vm_ip_address": "10.1.1.5", "vm_metadata": [["metadata", "a{}b", "c"]]},
        {"type": "vpnuserlist", "vpn_users": [{"user": "a{}b", "password": "c", "add": True}]},
        {"type": "dhcpentry", "mac_address": "02:00:00:00:00:01", "ipv6_address": "fe80::1%a{}b"},
        {
            "type": "dhcpentry", "mac_address": "02:00:00:00:00:01", "ipv6_address": "fe80::1",
            "ipv6_duid": "00:03:00:01{}b",
        },
        {"type": "remoteaccessvpn", "create": True, "vpn_server_ip": "192.0.2.1", "preshared_key": "a{}b"},
    ],
    ids=["vmpassword", "password-row", "metadata-name", "vpn-user", "zone-of-an-address", "identity", "key"],
)  # fmt: skip
def test_nothing_that_ends_a_line_for_any_program_gets_into_a_file_of_lines(document, end):
    text = json.dumps(document).replace("{}", json.dumps(end)[1:-1])
    with pytest.raises(guest.module("errors").Refused):
        model().parse(text)


@pytest.mark.parametrize("name", [".htaccess", "..", "a/b", "", "x" * 256, "\ud800"])
def test_a_metadata_file_cannot_be_hidden_or_elsewhere(name):
    rows = [["metadata", name, "x"]]
    with pytest.raises(guest.module("errors").Refused, match="not a plain name"):
        model().check({"type": "vmdata", "vm_ip_address": "10.1.1.5", "vm_metadata": rows})


@pytest.mark.parametrize("value", [5, 3232235521, True, "10.1.1.1%eth0", "::1", "10.1.1.1\n", "١٠.1.1.1"])
def test_an_address_is_a_text_of_four_numbers(value):
    with pytest.raises(guest.module("errors").Refused):
        guest.module("fields").address(value)


@pytest.mark.parametrize("value", [1.5, float("inf"), float("nan"), True, "1e3", "٣", "9" * 5000, None, [1]])
def test_a_whole_number_is_nothing_else(value):
    with pytest.raises(guest.module("errors").Refused, match="not a whole number"):
        guest.module("fields").integer(0, 2**63)(value)
