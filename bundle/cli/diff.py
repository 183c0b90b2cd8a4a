"""``sysvm bundle diff``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bundle.cli._options import PATH, json_option
from bundle.sink import tell, tell_json

if TYPE_CHECKING:
    from bundle.inspect.diff import Difference, Place


def _place(place: Place) -> str:
    return f"{place[0]}: {place[1]}"


def _document(found: Difference, old: Path, new: Path) -> dict[str, Any]:
    from dataclasses import asdict

    def rows(places: tuple[Place, ...]) -> list[dict[str, str]]:
        return [{"archive": archive, "path": path} for archive, path in places]

    return {
        "old": str(old),
        "new": str(new),
        "added": rows(found.added),
        "removed": rows(found.removed),
        "changed": rows(found.changed),
        "modes": [
            {"archive": row.place[0], "path": row.place[1], "old": f"{row.old:04o}", "new": f"{row.new:04o}"}
            for row in found.modes
        ],
        "services": [asdict(row) for row in found.services],
        "live_configuration": list(found.live),
        "packages": [{"name": name, "debian": debian, "file": file} for name, debian, file in found.packages],
        "base_image": {"suffices": not found.base_image, "reason": found.base_image},
        "verdict": asdict(found.verdict) if found.verdict is not None else None,
        "downtime": {"class": found.downtime_class, "by_type": found.downtime},
    }


def _print_members(found: Difference) -> None:
    for sign, places in (("+", found.added), ("-", found.removed), ("~", found.changed)):
        for place in places:
            tell(f"{sign} {_place(place)}")
    for row in found.modes:
        tell(f"m {_place(row.place)} {row.old:04o} -> {row.new:04o}")


def _print_meaning(found: Difference) -> None:
    from bundle.inspect.impact import MOMENTS

    tell("\nOn a VM:")
    for row in found.services:
        what = f"read {MOMENTS[row.service]}" if row.service in MOMENTS else row.effect
        more = f" and {len(row.why) - 3} more" if len(row.why) > 3 else ""
        tell(f"  {row.service}: {what} on {', '.join(row.types) or 'no type'}")
        tell(f"      because of {', '.join(row.why[:3])}{more}")
    for path in found.live:
        tell(f"  live configuration, the VM keeps its own: {path}")
    for name, debian, file in found.packages:
        tell(f"  package {name} ({file}) is installed on Debian {debian or 'any'}")
    if found.base_image:
        tell(f"  the base image does not suffice: {found.base_image}")
    elif found.verdict is not None:
        tell(f"  the base image of {found.verdict.template} suffices")
    by_type = ", ".join(f"{name} {effect}" for name, effect in found.downtime.items() if effect != "none")
    tell(f"  downtime class: {found.downtime_class}{f' ({by_type})' if by_type else ''}")


@click.command("diff")
@click.argument("old", type=PATH)
@click.argument("new", type=PATH)
@json_option
def command(old: Path, new: Path, as_json: bool) -> None:
    """Say what differs between two bundles, archives or source trees, and what that means on a VM."""
    from bundle import catalogue
    from bundle.inspect.contents import take
    from bundle.inspect.diff import compare

    found = compare(take(old), take(new), catalogue.load())
    if as_json:
        tell_json(_document(found, old, new))
    elif found.empty:
        tell("no difference")
    else:
        _print_members(found)
        _print_meaning(found)
