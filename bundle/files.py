"""Files that appear: complete or not at all, under their name by one rename."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundle.errors import InfrastructureError


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Give a name beside ``path`` to write to; it becomes ``path`` when the block ends without an error.

    Args:
        path: the file that is to appear, or to be replaced.

    Raises:
        InfrastructureError: the disk is full, or the place cannot be written.
    """
    beside = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield beside
        beside.replace(path)
    except OSError as error:
        raise InfrastructureError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        beside.unlink(missing_ok=True)


def write(path: Path, content: str | bytes) -> None:
    """Write a file that appears complete or not at all; text is UTF-8, lone surrogates are told by their number.

    Raises:
        InfrastructureError: it cannot be written.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with appearing(path) as beside:
        beside.write_bytes(data)
