"""The sources of what a cache keeps: the modules that make it, found by following imports, and the data beside them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("bundle", "harness")


@cache
def digest_behind(*modules: str) -> str:
    """Return a digest of everything that decides what some modules do, as 64 hex digits.

    That is: the text of the modules, of every module of ours that they import wherever the import stands, and of the
    data files that lie in the folders of these. What lies in ``bundle/`` and ``harness/`` themselves is nobody's.

    Args:
        modules: dotted names, such as ``harness.lab.golden_maker``.

    Raises:
        LookupError: there is no such module.
    """
    return digest_below(_ROOT, modules)


def digest_below(root: Path, modules: Iterable[str]) -> str:
    """Return what :func:`digest_behind` says of the packages ``bundle`` and ``harness`` in a folder."""
    total = sha256()
    for path in files_behind(modules, root):
        total.update(f"{path.relative_to(root)}\0{sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def files_behind(modules: Iterable[str], root: Path = _ROOT) -> list[Path]:
    """Return the files that decide what modules do, sorted; see :func:`digest_behind`.

    Raises:
        LookupError: there is no such module.
    """
    found: set[Path] = set()
    # The face of a package runs when one of its modules is imported, but what it hands on is used by nobody then.
    faces: set[Path] = set()
    left = [_required(name, root) for name in modules]
    while left:
        path = left.pop()
        if path in found:
            continue
        found.add(path)
        for name in _imports(path.read_bytes()):
            *above, last = _parts(name, root)
            faces |= set(above)
            left.append(last)
    found |= faces
    folders = {path.parent for path in found} - {root / package for package in _PACKAGES}
    return sorted(found | {data for folder in folders for data in _data(folder)})


def _required(name: str, root: Path) -> Path:
    path = _file(name, root)
    if path is None:
        raise LookupError(f"no module {name} below {root}")
    return path


def _file(name: str, root: Path) -> Path | None:
    base = root.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _parts(name: str, root: Path) -> Iterator[Path]:
    """Yield the files that importing a name runs: the packages on the way, and the module."""
    words = name.split(".")
    for count in range(1, len(words) + 1):
        path = _file(".".join(words[:count]), root)
        if path is not None:
            yield path


@cache
def _imports(text: bytes) -> tuple[str, ...]:
    """Return the dotted names of ours that a module imports when it runs."""
    return tuple(_imported(ast.parse(text)))


def _imported(tree: ast.Module) -> Iterator[str]:
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo += node.orelse
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in _PACKAGES:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in _PACKAGES)
        todo += ast.iter_child_nodes(node)


def _data(folder: Path) -> Iterator[Path]:
    """Yield the data files of a module's folder; a folder below it that is a package has its own modules."""
    for path in folder.iterdir():
        if path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").exists():
            yield from (
                file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts
            )
        elif path.is_file() and path.suffix not in {".py", ".pyc", ".typed"}:
            yield path
