"""Values in the words of a person."""

from __future__ import annotations

from bundle.sink import one_line


def plain(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    shown = one_line(text)
    for mark in "\\`*_{}[]<>#|":
        shown = shown.replace(mark, f"\\{mark}")
    return shown


def duration(seconds: float | None) -> str:
    """Return a length of time such as ``45 s``, ``12 min`` or ``3 h 20 min``."""
    if seconds is None:
        return "unknown"
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
