"""Common parts of the health checks: the strings that management sends, and how a check answers.

A check is a program in ``/root/health_checks``, called with ``basic`` or ``advanced``. It ends with one of the statuses
below and says why on standard output; one that is not of the kind asked for says nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Callable, Dict, List, Tuple

SUCCESS, FAILED, WARNING, UNKNOWN = range(4)
DATA = Path("/root/health_checks_data.json")

Record = Dict[str, str]
Answer = Tuple[int, str]


def text(path: Path) -> str:
    """Return the content of a file; an absent one is empty."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def records(source: str) -> List[Record]:
    """Return the records of a string: they end with ``;``, their fields are ``key=value`` joined by commas."""
    found = []
    for part in source.split(";"):
        words = [field.partition("=") for field in part.strip().split(",") if "=" in field]
        if words:
            found.append({key.strip(): value.strip() for key, _, value in words})
    return found


def sent(key: str) -> List[Record]:
    """Return the records that management sent under a key; nothing at all is no record."""
    try:
        data = json.loads(text(DATA) or "{}")
    except ValueError:
        return []
    config = data.get("health_checks_config") if isinstance(data, dict) else None
    source = config.get(key) if isinstance(config, dict) else None
    return records(source) if isinstance(source, str) else []


def verdict(troubles: List[str], success: str) -> Answer:
    """Return the answer of a check that looked for troubles."""
    return (FAILED, "; ".join(troubles)) if troubles else (SUCCESS, success)


def in_use(used: float, most: float) -> Answer:
    """Return the answer of a check that measured how much is in use; both numbers are per cent."""
    said = f"{used:.1f} % in use, at most {most:.1f} % allowed"
    return (SUCCESS if used <= most else FAILED), said


def main(kind: str, check: Callable[[], Answer]) -> None:
    """Run a check of a kind, if that is the kind asked for."""
    if len(sys.argv) != 2 or sys.argv[1] not in ("basic", "advanced"):
        sys.exit("usage: {} basic|advanced".format(Path(sys.argv[0]).name))
    if sys.argv[1] != kind:
        return
    try:
        status, message = check()
    except (OSError, ValueError, KeyError) as error:
        status, message = UNKNOWN, f"the check itself failed: {error!r}"
    print(message)
    sys.exit(status)
