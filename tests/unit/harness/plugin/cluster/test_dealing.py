"""Dealing: every scenario ends once, hosts that have a snapshot come first, and no host makes one twice."""

from __future__ import annotations

import random

import pytest

from harness.plugin.cluster.dealing import MOST_REPEATS, Dealer, Piece


def pieces(cell, count, seconds=10.0):
    return [Piece(f"{cell}-{number}", cell, seconds) for number in range(count)]


def dealer_with(*cells, hosts=("a", "b"), places=1, count=4):
    dealer = Dealer()
    for cell in cells:
        dealer.add(pieces(cell, count))
    for host in hosts:
        dealer.join(host, places)
    return dealer


def test_hosts_take_cells_that_nobody_is_at():
    dealer = dealer_with("x", "y")
    first, second = dealer.open(), dealer.open()
    assert {first.cell, second.cell} == {"x", "y"}
    assert {first.host, second.host} == {"a", "b"}
    assert dealer.open() is None


def test_a_host_that_has_the_snapshot_of_a_cell_takes_that_cell():
    dealer = Dealer()
    dealer.add([*pieces("x", 9), *pieces("y", 2)])
    dealer.join("a", 1, ["y"])
    assert dealer.open().cell == "y"


def test_nobody_joins_a_cell_while_its_first_host_makes_the_snapshot():
    dealer = dealer_with("x")
    first = dealer.open()
    assert dealer.open() is None
    dealer.has_golden(first)
    second = dealer.open()
    assert (second.cell, second.host) == ("x", "b")
    assert dealer.holders("x") == [first.host]


def test_hosts_ask_different_hosts_for_a_snapshot():
    dealer = dealer_with("x", hosts=["a"], places=1, count=20)
    dealer.has_golden(dealer.open())
    asked = []
    for host in "bcde":
        dealer.join(host, 1)
        seat = dealer.open()
        asked.append(seat.holders[0])
        dealer.has_golden(seat)
    assert asked[0] == "a"
    assert len(set(asked)) == 4, "each time the one that was asked least often"


def test_another_host_takes_over_a_cell_whose_first_host_has_gone():
    dealer = dealer_with("x")
    seat = dealer.open()
    dealer.give(seat)
    for lost in dealer.leave(seat.host):
        assert dealer.close(lost, lost=True) == []
    other = dealer.open()
    assert other.host != seat.host
    assert other.cell == "x"


def test_a_seat_knows_what_comes_next_as_long_as_there_is_enough_for_all():
    dealer = dealer_with("x", hosts=["a"], count=3)
    seat = dealer.open()
    assert len(dealer.give(seat)) == 2
    assert dealer.give(seat) == []
    dealer.done(seat, seat.hand[0].id)
    assert [piece.id for piece in dealer.give(seat)] == []
    dealer.done(seat, seat.hand[0].id)
    assert len(dealer.give(seat)) == 1


def test_the_longest_scenario_of_a_cell_is_made_first():
    dealer = Dealer()
    dealer.add([Piece("short", "x", 1.0), Piece("long", "x", 9.0)])
    dealer.join("a", 1)
    assert dealer.give(dealer.open())[0].id == "long"


def test_a_host_has_as_many_seats_as_places():
    dealer = dealer_with("x", "y", "z", hosts=["a"], places=2)
    assert [dealer.open() is not None for _ in range(3)] == [True, True, False]


def test_a_lost_host_costs_the_scenario_that_it_was_at_and_no_other():
    dealer = dealer_with("x", count=4)
    seat = dealer.open()
    running, next_one = dealer.give(seat)
    dealer.close(seat, lost=True)
    assert running.failed_on == [seat.host]
    assert next_one.failed_on == []
    assert {piece.id for piece in dealer.waiting["x"]} == {f"x-{number}" for number in range(4)}


def test_what_a_host_failed_is_made_on_another_one():
    dealer = dealer_with("x", count=1)
    seat = dealer.open()
    (piece,) = dealer.give(seat)
    assert dealer.done(seat, piece.id, by_machine=True) is None
    assert dealer.give(seat) == []
    dealer.close(seat, lost=False)
    other = dealer.open()
    assert other.host != seat.host
    assert dealer.give(other) == [piece]


def test_what_the_only_host_failed_is_not_made_again():
    dealer = dealer_with("x", hosts=["a"], count=1)
    seat = dealer.open()
    (piece,) = dealer.give(seat)
    assert dealer.done(seat, piece.id, by_machine=True) is piece


def test_a_finding_is_never_made_again():
    dealer = dealer_with("x", count=1)
    seat = dealer.open()
    (piece,) = dealer.give(seat)
    assert dealer.done(seat, piece.id) is piece
    assert not any(dealer.waiting.values())


def test_a_scenario_of_which_hosts_die_is_given_up():
    dealer = dealer_with("x", hosts=["a", "b", "c", "d"], count=1)
    for turn in range(MOST_REPEATS + 1):
        seat = dealer.open()
        dealer.give(seat)
        given_up = [piece for one in dealer.leave(seat.host) for piece in dealer.close(one, lost=True)]
        assert bool(given_up) == (turn == MOST_REPEATS)
    assert dealer.finished


def test_what_waits_is_handed_back_when_nobody_is_left():
    dealer = dealer_with("x", hosts=["a"], count=3)
    dealer.leave("a")
    assert len(dealer.stranded()) == 3
    assert dealer.finished


@pytest.mark.parametrize("seed", range(30))
def test_every_scenario_ends_once_whatever_happens_to_hosts(seed):
    """Hosts come, die and fail at random; one stays, and whatever is not given up is done exactly once."""
    draw = random.Random(seed)
    dealer = dealer_with("x", "y", "z", hosts=["stays"], places=2, count=8)
    done, given_up, number = [], [], 0
    for _ in range(2000):
        if dealer.finished:
            break
        what = draw.random()
        if what < 0.05:
            number += 1
            dealer.join(f"h{number}", draw.randint(1, 3), draw.sample(["x", "y", "z"], 1))
        elif what < 0.08 and len(dealer.hosts) > 1:
            for seat in dealer.leave(draw.choice(sorted(dealer.hosts - {"stays"}))):
                given_up += dealer.close(seat, lost=True)
        while (seat := dealer.open()) is not None:
            assert dealer.give(seat), "a seat is opened for work"
        for seat in list(dealer.seats.values()):
            if draw.random() < 0.3:
                dealer.has_golden(seat)
            if seat.hand and draw.random() < 0.5:
                ended = dealer.done(seat, seat.hand[0].id, by_machine=draw.random() < 0.1)
                done += [ended] if ended is not None else []
            if not dealer.give(seat) and not seat.hand:
                dealer.close(seat, lost=False)
    assert dealer.finished
    names = [piece.id for piece in (*done, *given_up)]
    assert len(names) == len(set(names)) == 24
    assert all(piece.spent for piece in given_up)
