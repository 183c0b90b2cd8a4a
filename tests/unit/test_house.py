"""The house is as docs/house.md shows it: rooms in one order, no import upwards, no circle."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOUSE = (ROOT / "docs/house.md").read_text(encoding="utf-8")
PACKAGES = ("harness", "bundle")
# What judges and what plays the server must work without a machine and without a connection.
NEUTRAL = ("harness.management", "harness.checks", "harness.observe")
FORBIDDEN = {"libvirt", "libvirt_qemu", "paramiko"}


def rooms(package):
    """Return the rooms of a package from the top down, as the page lists them."""
    section = HOUSE.split(f"## Rooms of `{package}/`")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)


def modules():
    """Return every module of ours with its file."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            words = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(words[:-1] if words[-1] == "__init__" else words)] = path
    return found


MODULES = modules()


def statements(path):
    """Yield the names that a module imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


IMPORTS = {name: set(statements(path)) for name, path in MODULES.items()}


def room_of(module):
    words = module.split(".")
    return words[1] if len(words) > 1 else None


@pytest.mark.parametrize("package", PACKAGES)
def test_the_page_lists_every_room_and_no_other(package):
    there = {room_of(name) for name in MODULES if name.startswith(f"{package}.")}
    listed = rooms(package)
    assert sorted(listed) == sorted(there)
    assert len(set(listed)) == len(listed)


def test_there_are_at_most_twenty_rooms_in_the_harness():
    """A room is a folder; the one module beside them is the door for authors of scenarios."""
    folders = {room for room in rooms("harness") if (ROOT / "harness" / room).is_dir()}
    assert len(folders) <= 20
    assert set(rooms("harness")) - folders == {"scenario"}


@pytest.mark.parametrize("package", PACKAGES)
def test_each_room_uses_only_the_rooms_below_it(package):
    order = {room: place for place, room in enumerate(rooms(package))}
    upwards = [
        f"{name} imports {used}"
        for name, imported in IMPORTS.items()
        if name.startswith(f"{package}.")
        for used in sorted(imported)
        if used.startswith(f"{package}.") and order[room_of(used)] < order[room_of(name)]
    ]
    assert upwards == []


def test_the_bundle_side_never_imports_the_harness():
    """But for the command line: one command has both sides."""
    guilty = [
        name
        for name, used in IMPORTS.items()
        if name.startswith("bundle") and any(u.startswith("harness") for u in used)
    ]
    assert guilty == []


def test_no_module_takes_part_in_a_circle():
    graph = {name: {used for used in imported if used in MODULES} for name, imported in IMPORTS.items()}
    # A package's own face hands on the names of its modules: who imports a module does not import the face's others.
    faces = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    try:
        TopologicalSorter({name: used - faces for name, used in graph.items() if name not in faces}).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def reachable(start):
    """Return every module, ours or not, that importing a module brings along."""
    seen, todo = set(), [start]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += list(_runs(name))
    return seen


def _runs(name):
    """Return what a module imports when it runs, with the packages on the way."""
    if name not in MODULES:
        return set()
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    found, todo = set(), list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        todo += ast.iter_child_nodes(node)
    for used in list(found):
        words = used.split(".")
        found |= {".".join(words[:count]) for count in range(1, len(words))}
    return found


@pytest.mark.parametrize("room", NEUTRAL)
def test_what_judges_and_what_plays_the_server_reaches_no_machine(room):
    for module in [name for name in MODULES if name == room or name.startswith(f"{room}.")]:
        brought = {name.split(".")[0] for name in reachable(module)}
        assert not brought & FORBIDDEN, f"{module} brings {sorted(brought & FORBIDDEN)}"


def test_the_paths_that_the_page_names_are_there():
    named = {word for word in re.findall(r"`([\w./-]+)`", HOUSE) if "/" in word and "ROOM" not in word}
    missing = [
        word
        for word in sorted(named)
        if not any((base / word).exists() for base in (ROOT, ROOT / "harness", ROOT / "bundle"))
    ]
    assert named
    assert missing == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_unit_tests_stand_in_folders_that_mirror_the_rooms(package):
    folders = {
        path.name
        for path in (ROOT / "tests/unit" / package).iterdir()
        if path.is_dir() and path.name != "__pycache__"
    }
    assert folders <= set(rooms(package))
