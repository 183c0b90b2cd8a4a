"""``sysvm checks``: list what is judged, and why it matters."""

from __future__ import annotations

import click

from bundle.cli._options import json_option
from bundle.errors import UsageError
from bundle.sink import tell, tell_json


@click.command()
@click.argument("names", nargs=-1)
@json_option
def checks(names: tuple[str, ...], as_json: bool) -> None:
    """List the checks that judge a live patch; NAMES (checks or their subjects) narrow the list."""
    from harness.checks import checks as registered

    wanted = [
        check
        for check in registered()
        if not names or check.name in names or check.name.partition(".")[0] in names
    ]
    if not wanted:
        subjects = sorted({check.name.partition(".")[0] for check in registered()})
        raise UsageError(f"no check is called {' or '.join(names)} (subjects: {', '.join(subjects)})")
    rows = [
        {
            "name": check.name,
            "applies": list(check.applies),
            "holds": _holds(check.judge.__doc__),
            "why": check.why,
        }
        for check in wanted
    ]
    if as_json:
        tell_json(rows)
        return
    width = max(len(check.name) for check in wanted)
    for check in wanted:
        tell(f"{check.name:<{width}}  {_holds(check.judge.__doc__)}")
        tell(f"{'':<{width}}  ({check.why})")


def _holds(docstring: str | None) -> str:
    return (docstring or "").strip().splitlines()[0]
