"""``sysvm scenarios``: list the acceptance scenarios."""

from __future__ import annotations

import click

from bundle.cli._options import json_option
from bundle.sink import tell, tell_json


@click.command()
@json_option
def scenarios(as_json: bool) -> None:
    """List the acceptance scenarios: name, what happens, for which VM types, and whether it runs by default."""
    from harness.plugin.planning import plan

    declared = {row.declared.name: row.declared for row in plan(["--scenario=all"])}
    rows = [
        {
            "name": row.name,
            "title": row.title,
            "default": row.default,
            "types": None if row.types is None else list(row.types),
            "why": row.why,
            "companions": row.companions,
            "tags": list(row.tags),
            "needs": list(row.needs),
        }
        for row in declared.values()
    ]
    if as_json:
        tell_json(rows)
        return
    width = max(map(len, declared))
    for row in declared.values():
        types = "" if row.types is None else f" ({', '.join(row.types)} only)"
        tell(f"{row.name:<{width}}  {row.title}{types}{' [default]' if row.default else ''}")
