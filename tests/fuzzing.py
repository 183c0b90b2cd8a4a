"""Fuzzing: how often, with what, and what may come out; ``nox -s fuzz -- TARGET N`` runs one target at length."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
# What is fuzzed, and where its tests are.
TARGETS = {
    "readers": "tests/unit/bundle/archive/test_readers_survive_anything.py",
    "import": "tests/unit/harness/image/test_import_survives_anything.py",
    "events": "tests/unit/harness/report/test_events_survive_anything.py",
    "networks": "tests/unit/harness/network/test_networks_survive_anything.py",
    "answers": "tests/unit/harness/observe/test_answers_survive_anything.py",
    "depot": "tests/unit/harness/vm/depot/test_depot.py",
}
EXAMPLES = "SYSVM_FUZZ_EXAMPLES"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def fuzz(few: int) -> settings:
    """Return how a test is fuzzed: with few examples, or as many as a person asked for."""
    return settings(
        max_examples=int(os.environ.get(EXAMPLES, few)),
        deadline=20_000,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        # The few are the same at each run: what fails there fails for everybody. At length they are drawn anew.
        derandomize=EXAMPLES not in os.environ,
    )


@st.composite
def damaged(draw: st.DrawFn, original: bytes) -> bytes:
    """Draw a file with a few bytes changed, a piece cut out, or a piece put in."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        action = draw(st.sampled_from(["change", "cut", "insert", "number", "end"]))
        if action == "change" and data:
            data[at] = draw(st.integers(0, 255))
        elif action == "cut":
            del data[at : at + draw(st.integers(1, 600))]
        elif action == "insert":
            data[at:at] = draw(st.binary(max_size=600))
        elif action == "number":
            data[at : at + 4] = draw(st.sampled_from([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"7777"]))
        elif action == "end":
            del data[at:]
    return bytes(data)


@st.composite
def damaged_text(draw: st.DrawFn, original: str) -> str:
    """Draw a text with words or lines changed, doubled, exchanged or left out: much of it is still read."""
    lines = original.splitlines(keepends=True)
    odd = st.sampled_from(
        ["", "-1", "99999999999999999999999", "0", "nan", "[]", "{}", '"', "\0", "\udcff", "::", "x" * 5000]
    )
    for _ in range(draw(st.integers(1, 4))):
        if not lines:
            break
        at = draw(st.integers(0, len(lines) - 1))
        action = draw(st.sampled_from(["word", "double", "exchange", "drop", "cut"]))
        if action == "word":
            words = lines[at].split(" ")
            words[draw(st.integers(0, len(words) - 1))] = draw(odd)
            lines[at] = " ".join(words)
        elif action == "double":
            lines.insert(at, lines[at])
        elif action == "exchange":
            other = draw(st.integers(0, len(lines) - 1))
            lines[at], lines[other] = lines[other], lines[at]
        elif action == "drop":
            del lines[at]
        else:
            lines[at] = lines[at][: draw(st.integers(0, len(lines[at])))]
    return "".join(lines)
