"""``sysvm bundle inspect``."""

from __future__ import annotations

from pathlib import Path

import click

from bundle.cli._options import PATH, json_option
from bundle.sink import tell, tell_json


@click.command("inspect")
@click.argument("archive", metavar="FILE", type=PATH)
@json_option
def command(archive: Path, as_json: bool) -> int:
    """Judge a foreign .tgz or .zip without unpacking it; exits with 1 when it is dangerous."""
    from bundle.archive.reader import read_archive
    from bundle.errors import Exit, UsageError
    from bundle.inspect.findings import LEVELS, judge

    if not archive.is_file():
        raise UsageError(f"{archive}: no such file")
    try:
        entries = list(read_archive(archive))
    except OSError as error:
        raise UsageError(f"{archive}: {error.strerror}") from error
    found = sorted(judge(entries), key=lambda row: LEVELS.index(row.level))
    files = [row for row in entries if row.kind == "file"]
    counts = {level: sum(row.level == level for row in found) for level in LEVELS}
    if as_json:
        rows = [{key: _printable(value) for key, value in vars(row).items()} for row in found]
        summary = {"entries": len(entries), "files": len(files), "bytes": sum(row.size for row in files)}
        tell_json({"archive": str(archive), **summary, "counts": counts, "findings": rows})
    else:
        tell(
            f"{archive}: {len(entries)} entries, {sum(row.size for row in files)} bytes in {len(files)} files"
        )
        for row in found:
            tell(f"{row.level}: {_printable(row.path)}: {_printable(row.message)} [{row.code}]")
        tell(", ".join(f"{number} {level}" for level, number in counts.items()))
    return Exit.FAILED if counts["danger"] else Exit.OK


def _printable(text: str) -> str:
    """Return a text without what a terminal or a JSON reader would stumble over."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
