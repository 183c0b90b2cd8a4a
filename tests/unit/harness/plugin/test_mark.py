"""A scenario's mark is read once, and a mistake in it is one line."""

import ast
import inspect
from pathlib import Path

import pytest

from bundle.errors import UsageError
from harness import scenario as face
from harness.plugin.mark import Scenario, parse


def test_a_mark_becomes_a_frozen_scenario():
    made = parse(("S08",), {"types": ("router",), "tags": ("files",), "companions": 2}, "t", "A title.")
    assert made == Scenario("S08", "A title.", types=("router",), tags=("files",), companions=2)
    with pytest.raises(AttributeError):
        made.default = True


def test_a_scenario_says_why_it_is_not_for_a_type():
    assert Scenario("S26", types=("secstorage",), why="only secondary storage has mounts").not_for(
        "router"
    ) == ("only secondary storage has mounts")
    assert Scenario("S26", types=("secstorage",)).not_for("router") == "it is about secstorage"
    assert Scenario("S26", types=("secstorage",)).not_for("secstorage") == ""
    assert Scenario("S08").not_for("router") == ""


def test_a_scenario_knows_its_row_of_the_field():
    names = ("S08-live-config-kept", "S60-x", "live-patch", "S8-x", "SOS")
    assert [Scenario(name).row for name in names] == ["S08", "S60", "", "", ""]


@pytest.mark.parametrize(
    ("args", "options", "words"),
    [
        ((), {}, "takes one name"),
        (("a",), {"network": "vpn"}, "one type, that of the network"),
        (("a",), {"network": "vpn", "types": ("router", "vpcrouter")}, "one type, that of the network"),
        (("",), {}, "takes one name"),
        (("a", "b"), {}, "takes one name"),
        (("a",), {"typ": ("router",)}, "has no 'typ'"),
        (("a",), {"types": "router"}, "a tuple of words, not 'router'"),
        (("a",), {"needs": ("luck",)}, "'luck', which is none of network, root"),
    ],
)
def test_a_mistake_in_a_mark_is_one_line_with_the_test(args, options, words):
    with pytest.raises(UsageError) as caught:
        parse(args, options, "tests/test_mine.py::test_it")
    assert str(caught.value).startswith("tests/test_mine.py::test_it: ")
    assert words in str(caught.value)


def test_the_public_face_is_small_and_explained():
    assert len(face.__all__) <= 20
    for name in face.__all__:
        value = getattr(face, name)
        if inspect.isclass(value):
            first = (inspect.getdoc(value) or "").split(maxsplit=1)[:1]
            assert first and first[0] in {"A", "An", "The", "Base"}, f"{name} does not say what it is"
            public = {word: item for word, item in vars(value).items() if not word.startswith("_")}
            silent = [word for word, item in public.items() if callable(item) and not inspect.getdoc(item)]
            assert not silent, f"{name} has {', '.join(silent)} without a docstring"
        elif inspect.isfunction(value):
            assert inspect.getdoc(value), f"{name} has no docstring"
        else:
            assert f"``{name}``" in (face.__doc__ or ""), (
                f"{name}, which cannot have a docstring, is not explained"
            )


def test_what_the_public_face_has_no_scenario_takes_from_behind_it():
    scenarios = Path(face.__file__).with_name("scenarios")
    behind = [
        f"{path.name}:{node.lineno}: {alias.name} of {node.module}"
        for path in scenarios.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module != face.__name__
        for alias in node.names
        if alias.name in face.__all__
    ]
    assert behind == []
