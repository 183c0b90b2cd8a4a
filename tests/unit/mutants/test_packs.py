"""Damages that share a VM: each has to be told from the others."""

from __future__ import annotations

from tests.mutants.vm import damages, packs


def test_every_damage_is_in_one_pack():
    packed = [row.name for pack in packs() for row in pack]
    assert sorted(packed) == sorted(row.name for row in damages())


def test_no_two_damages_of_a_pack_are_found_by_one_check():
    for pack in packs():
        checks = [row.check for row in pack]
        assert len(set(checks)) == len(checks), pack
