"""The reviewed list of what may differ: each row says something of its own."""

from __future__ import annotations

import fnmatch

import pytest

from harness.observe import reviewed


@pytest.mark.parametrize("kind", reviewed.KINDS)
def test_no_row_is_covered_by_the_others(kind: reviewed.VolatileKind) -> None:
    rows = reviewed.rows(kind)
    idle = []
    for row in rows:
        others = [pattern for other in rows if other is not row for pattern in other.patterns]
        names = [pattern.replace("*", "made-up") for pattern in row.patterns]
        if all(any(fnmatch.fnmatchcase(name, pattern) for pattern in others) for name in names):
            idle.append(row.patterns)
    assert idle == []


def test_every_row_has_an_owner_of_the_list() -> None:
    owners = {row.owner for kind in reviewed.KINDS for row in reviewed.rows(kind)}
    assert owners <= set(reviewed.OWNERS)


@pytest.mark.parametrize("protocol", [1, 58])
def test_a_ping_that_is_under_way_at_one_look_alone_is_no_difference(protocol: int) -> None:
    for change in ("was not there before", "is gone"):
        assert reviewed.excuses("socket", f"raw socket of protocol {protocol} {change}")
        assert not reviewed.excuses("socket", f"raw socket of protocol 2{protocol} {change}")
