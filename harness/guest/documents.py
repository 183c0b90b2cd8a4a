"""Documents that a guest says in JSON: read within a limit; every way in which one can be unreadable is one error."""

from __future__ import annotations

import json
from typing import Any

from bundle.archive.limits import AnswerLimits


def parse(text: str, most: int = AnswerLimits.json) -> Any:
    """Return what a guest's JSON says.

    Args:
        text: as it came.
        most: characters that it may have: a parsed document takes many times their memory.

    Raises:
        ValueError: it is no JSON, longer, or nested deeper than anything a guest of ours says.
    """
    if len(text) > most:
        raise ValueError(f"a document of {len(text)} characters (at most {most} are read)")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("a document that is nested too deeply") from None
