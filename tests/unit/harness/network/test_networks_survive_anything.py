"""Any file that declares a network is a network whose orders can be written, or one line."""

from __future__ import annotations

from importlib.resources import files

from hypothesis import given
from hypothesis import strategies as st

from bundle.errors import UsageError
from harness import network
from tests.fuzzing import damaged, damaged_text, fuzz, json_values

SHIPPED = {
    path.name: path.read_text("utf-8")
    for path in sorted((files("harness.network") / "shipped").iterdir(), key=lambda path: path.name)
}
# Values that look right at the place of another.
VALUES = st.sampled_from(
    [
        '"10.1.1.1"',
        '"10.1.1.0/24"',
        '"eth9"',
        '"0.0.0.0/0"',
        '"tcp"',
        "70000",
        "-1",
        "true",
        "[]",
        '""',
        '"1:99999"',
        '"fd00::1/64"',
    ]
)


def read(path):
    """Read a network, and write every order that a server would give for it."""
    try:
        found = network.load(path)
    except UsageError as error:
        assert "\n" not in error.diagnostics()
        return None
    assert network.Orders(found, "4.21").start() is not None
    return found


def test_the_shipped_networks_are_read(tmp_path):
    assert len(SHIPPED) > 5
    for name, text in SHIPPED.items():
        (tmp_path / name).write_text(text)
        assert read(tmp_path / name) is not None


@st.composite
def mistaken(draw):
    """Draw a shipped network with the values of some lines exchanged."""
    lines = SHIPPED[draw(st.sampled_from(sorted(SHIPPED)))].splitlines()
    places = [number for number, line in enumerate(lines) if " = " in line]
    for at in draw(st.lists(st.sampled_from(places), min_size=1, max_size=3)):
        name, _, _value = lines[at].partition(" = ")
        others = [lines[place].partition(" = ")[2] for place in places]
        lines[at] = f"{name} = {draw(VALUES | st.sampled_from(others))}"
    return "\n".join(lines)


@fuzz(150)
@given(text=mistaken() | st.sampled_from(sorted(SHIPPED)).flatmap(lambda name: damaged_text(SHIPPED[name])))
def test_any_mistake_in_a_network_is_told_or_harmless(text, tmp_path):
    (tmp_path / "n.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
    read(tmp_path / "n.toml")


@fuzz(60)
@given(
    data=st.sampled_from(sorted(SHIPPED)).flatmap(lambda name: damaged(SHIPPED[name].encode()))
    | st.binary(max_size=200)
)
def test_any_bytes_are_told_or_a_network(data, tmp_path):
    (tmp_path / "n.toml").write_bytes(data)
    read(tmp_path / "n.toml")


@fuzz(100)
@given(
    document=st.dictionaries(
        st.sampled_from(["type", "name", "nic", "forward", "acl", "vpn", "machine"]), json_values
    )
)
def test_any_document_is_told_or_a_network(document):
    try:
        network.parse(document)
    except UsageError as error:
        assert "\n" not in error.diagnostics()
