"""The comparison as one document, which every rendering tells: JSON as it is, text, Markdown, HTML."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import jinja2

from bundle.inspect.contents import Place
from bundle.inspect.diff import BundleDifference
from bundle.inspect.lines import FileLines
from bundle.matrix import WHOSE

# Files that a terminal names as the reason; all of them stand in the list of members.
_MORE = 3
_GAPS = {
    "none": "nothing is renewed",
    "later": "no gap now",
    "reload": "no gap: new processes beside the old ones",
    "restart": "a gap until the service is up again",
    "failover": "a failover to the other router",
}


def _members(found: BundleDifference) -> dict[str, Any]:
    def rows(places: tuple[Place, ...]) -> list[dict[str, str]]:
        return [{"archive": archive, "path": path} for archive, path in places]

    return {
        "added": rows(found.added),
        "removed": rows(found.removed),
        "changed": rows(found.changed),
        "modes": [
            {"archive": row.place[0], "path": row.place[1], "old": f"{row.old:04o}", "new": f"{row.new:04o}"}
            for row in found.modes
        ],
    }


def document(
    found: BundleDifference, old: str, new: str, lines: tuple[FileLines, ...] = ()
) -> dict[str, Any]:
    """Return everything that is said about a comparison.

    Args:
        found: the comparison.
        old: what a person called the old one.
        new: what a person called the new one.
        lines: the changed lines of texts.
    """
    unknown = found.verdict is None or found.verdict.word == "unknown"
    return {
        "old": old,
        "new": new,
        "equal": found.empty,
        "notes": list(found.notes),
        "verdict": asdict(found.verdict) if found.verdict is not None else None,
        "base_image": {"suffices": None if unknown else not found.base_image, "reason": found.base_image},
        "facts": [asdict(row) for row in found.facts],
        **_members(found),
        "script": {
            "does": found.script.describe(),
            "kind": found.script.kind or "assumed",
            "releases": list(found.script.releases),
        },
        "renewals": [asdict(row) for row in found.renewals],
        "readers": [asdict(row) for row in found.readers],
        "no_reader_known": list(found.no_reader),
        "live_configuration": {
            "fate": "kept as the VM has it" if found.live_kept else "reset until rules write it again",
            "paths": list(found.live),
        },
        "packages": [{"name": name, "debian": debian, "file": file} for name, debian, file in found.packages],
        "downtime": {
            "class": found.downtime_class,
            "by_type": {name: {"effect": row, "gap": _GAPS[row]} for name, row in found.downtime.items()},
        },
        "lines": [
            {
                "archive": row.place[0],
                "path": row.place[1],
                "lines": list(row.lines),
                "left_out": row.left_out,
            }
            for row in lines
        ],
    }


def _types(names: list[str]) -> str:
    return ", ".join(names) or "no type"


def _place(row: dict[str, str]) -> str:
    return f"{row['archive']}: {row['path']}"


def _verdict_lines(said: dict[str, Any]) -> Iterator[str]:
    verdict, image = said["verdict"], said["base_image"]
    if verdict is None:
        yield "verdict: unknown, because the release of one side is not known"
        return
    whose = WHOSE[verdict["script"]]
    yield (
        f"verdict: {verdict['word']} for {verdict['template']} -> {verdict['target']} with {whose}: {verdict['action']}"
    )
    for row in verdict["reasons"]:
        about = f" [{', '.join(row['types'])}]" if row["types"] else ""
        yield f"  {row['verdict']}{about}: {row['text']} (source: {row['source']})"
    if image["suffices"]:
        yield f"  the base image of {verdict['template']} suffices"
    elif image["suffices"] is None:
        yield f"  it is not known whether the base image of {verdict['template']} suffices"
    else:
        yield f"  the base image does not suffice: {image['reason']}"


def _member_lines(said: dict[str, Any]) -> Iterator[str]:
    for row in said["facts"]:
        yield f"! {row['name']}: {row['old']} -> {row['new']}"
    for sign, key in (("+", "added"), ("-", "removed"), ("~", "changed")):
        for row in said[key]:
            yield f"{sign} {_place(row)}"
    for row in said["modes"]:
        yield f"m {_place(row)} {row['old']} -> {row['new']}"


def _renewal_lines(said: dict[str, Any]) -> Iterator[str]:
    releases = said["script"]["releases"]
    yield "What the patch does in any case:"
    yield f"  {said['script']['does']}" + (f" ({', '.join(releases)})" if releases else "")
    yield f"  script: {said['script']['kind']}"
    for row in said["renewals"]:
        yield f"  {row['service']}: {row['effect']} on {_types(row['types'])}"


def _reader_lines(said: dict[str, Any]) -> Iterator[str]:
    if said["readers"] or said["no_reader_known"]:
        yield "Who reads what changed:"
    for row in said["readers"]:
        yield f"  {row['reader']}: {row['when']} on {_types(row['types'])} ({row['effect']})"
        more = len(row["why"]) - _MORE
        yield f"      because of {', '.join(row['why'][:_MORE])}{f' and {more} more' if more > 0 else ''}"
    for path in said["no_reader_known"]:
        yield f"  no reader known: {path}"
    for path in said["live_configuration"]["paths"]:
        yield f"  live configuration, {said['live_configuration']['fate']}: {path}"
    for row in said["packages"]:
        yield f"  package {row['name']} ({row['file']}) is installed on Debian {row['debian'] or 'any'}"


def text(said: dict[str, Any]) -> str:
    """Return the document for a terminal; the changed lines are for the other renderings."""
    if said["equal"]:
        return "no difference\n"
    parts = [f"{said['old']} -> {said['new']}"]
    parts += [f"note: {note}" for note in said["notes"]]
    parts += [
        *_verdict_lines(said),
        "",
        *_member_lines(said),
        "",
        *_renewal_lines(said),
        "",
        *_reader_lines(said),
    ]
    parts.append("Downtime, by VM type:")
    for name, row in said["downtime"]["by_type"].items():
        parts.append(f"  {name}: {row['effect']}, {row['gap']}")
    parts.append(f"downtime class: {said['downtime']['class']}")
    return "\n".join(parts) + "\n"


def _template(name: str, *, escape: bool) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bundle", "templates/report"),
        autoescape=escape,  # noqa: S701 - HTML escapes; Markdown has its own filters for every value
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["cell"] = _cell
    environment.filters["fence"] = _fence
    return environment.get_template(name)


def _cell(value: str) -> str:
    """Return a text for a cell of a Markdown table or a list: no markup, one line."""
    plain = "".join(char if char.isprintable() else repr(char)[1:-1] for char in value)
    return "".join(f"\\{char}" if char in "\\`*_{}[]<>|#" else char for char in plain)


def _fence(lines: list[str]) -> str:
    """Return a fence that no line can close."""
    longest = max(
        (len(line) - len(line.lstrip("`")) for row in lines for line in (row.lstrip("+- "),)), default=0
    )
    return "`" * max(3, longest + 1)


def markdown(said: dict[str, Any]) -> str:
    """Return the document as one page of Markdown."""
    return _template("diff.md.j2", escape=False).render(said, whose=WHOSE)


def html(said: dict[str, Any]) -> str:
    """Return the document as one page of HTML that needs nothing else."""
    return _template("diff.html.j2", escape=True).render(said, whose=WHOSE)
