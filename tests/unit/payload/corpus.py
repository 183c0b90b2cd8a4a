"""Messages in the shapes that management servers of 4.14 to 4.22 send, with invented values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FILE = Path(__file__).resolve().parents[2] / "data" / "messages-corpus.jsonl"
MESSAGES: dict[str, dict[str, Any]] = {
    row["name"]: row["message"] for row in map(json.loads, _FILE.read_text(encoding="utf-8").split("\n")[:-1])
}
# The messages whose keys are those of an older server; the others are as 4.22 sends them.
_OLDER = {
    "pf-old": "4.19.0", "s2s-4.14": "4.14.0", "gn-4.14": "4.14.0", "lb-4.21": "4.21.0",
}  # fmt: skip


def release(name: str) -> str:
    """Return a release whose servers send a message as it stands in the corpus."""
    return _OLDER.get(name, "4.22.0")
