"""The joint between a shard and the merge of all: what the whole run was to be."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def digest_of(identifiers: Iterable[str]) -> str:
    """Return a digest over the ids of scenarios, whatever their order."""
    return hashlib.sha256("\n".join(sorted(identifiers)).encode()).hexdigest()
