"""Words that a shell offers when a person presses Tab; a list is read when asked for, a failure offers nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import click

Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def _completer(words: Callable[[click.Context], Iterable[str]], *, several: bool = True) -> Completer:
    """Return a completer of words; of a list with commas it completes the last part."""

    def complete(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
        try:
            return [f"{before}{comma}{word}" for word in words(ctx) if word.startswith(last)]
        except Exception:  # a shell that completes is no place for errors
            return []

    return complete


def _vm_types(_ctx: click.Context) -> Iterable[str]:
    from bundle import catalogue

    return catalogue.load().types


def _releases(_ctx: click.Context) -> Iterable[str]:
    from bundle import catalogue

    return (*catalogue.load().releases, catalogue.ALL)


def _networks(_ctx: click.Context) -> Iterable[str]:
    from importlib.resources import files

    shipped = files("harness.network") / "shipped"
    return sorted(
        file.name.removesuffix(".toml") for file in shipped.iterdir() if file.name.endswith(".toml")
    )


def _scenarios(_ctx: click.Context) -> Iterable[str]:
    import re

    marks = re.compile(r"mark\.scenario\(\s*\"([^\"]+)\"")
    folder = Path(__file__).parent.parent / "scenarios"
    # The files are read and not imported: an import takes a second, and Tab is pressed twice.
    found = {name for file in folder.glob("test_*.py") for name in marks.findall(file.read_text("utf-8"))}
    return ("default", "all", *sorted(found))


def _kept(_ctx: click.Context) -> Iterable[str]:
    from harness.kept.listing import all_kept

    return [row.name for row in all_kept()]


def _images(_ctx: click.Context) -> Iterable[str]:
    from harness.host.cache import cache_root

    return sorted(path.name for path in (cache_root() / "images").glob("*") if path.is_dir())


def _runs(ctx: click.Context) -> Iterable[str]:
    root = Path(ctx.params.get("root") or "results")
    return sorted((path.parent.name for path in root.glob("*/events.jsonl")), reverse=True)


vm_types = _completer(_vm_types)
releases = _completer(_releases)
networks = _completer(_networks, several=False)
scenarios = _completer(_scenarios)
kept = _completer(_kept, several=False)
images = _completer(_images, several=False)
runs = _completer(_runs, several=False)
