from __future__ import annotations

import pytest

from validator_node.network.standing import MAX_PROVEN, PROVEN_S, Standing, Standings


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def standings(clock: Clock) -> Standings:
    return Standings(clock)


def test_who_is_not_proven_is_a_stranger(standings: Standings) -> None:
    assert standings.of("a") is Standing.STRANGER
    assert not Standing.STRANGER.is_reserved
    assert not Standing.REGISTERED.is_reserved
    assert standings.reserved() == frozenset()


def test_the_highest_standing_counts(standings: Standings) -> None:
    standings.assign(Standing.MEMBER, {"a"})
    standings.assign(Standing.REGISTERED, {"a", "b"})
    standings.assign(Standing.CONFIGURED, {"b", "c"})
    assert [standings.of(p) for p in "abc"] == [
        Standing.MEMBER,
        Standing.CONFIGURED,
        Standing.CONFIGURED,
    ]
    assert standings.reserved() == {"a", "b", "c"}


def test_a_source_takes_back_what_it_no_longer_says(standings: Standings) -> None:
    told: list[int] = []
    standings.on_change(lambda: told.append(1))
    standings.assign(Standing.MEMBER, {"a", "b"})
    standings.assign(Standing.MEMBER, ["b", "a"])
    assert len(told) == 1
    standings.assign(Standing.MEMBER, {"b"})
    assert len(told) == 2
    assert standings.of("a") is Standing.STRANGER
    assert standings.of("b") is Standing.MEMBER


def test_a_proof_expires(standings: Standings, clock: Clock) -> None:
    standings.prove("a")
    assert standings.of("a") is Standing.REGISTERED
    clock.now += PROVEN_S
    assert standings.of("a") is Standing.STRANGER


def test_proofs_are_bounded_and_a_new_one_refreshes(standings: Standings) -> None:
    standings.prove("first")
    standings.prove("second")
    for number in range(MAX_PROVEN - 2):
        standings.prove(str(number))
    standings.prove("first")
    standings.prove("one more")
    assert standings.of("first") is Standing.REGISTERED
    assert standings.of("second") is Standing.STRANGER
