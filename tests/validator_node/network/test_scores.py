"""Scores: charges, leaking, bans with an end, bounded tables."""

from hypothesis import given
from hypothesis import strategies as st

from validator_node.network.counters import Counters
from validator_node.network.scores import (
    BAN_S,
    COSTS,
    LEAK_PER_S,
    LIMIT,
    MAX_BANS,
    MAX_SCORES,
    Scores,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def made() -> tuple[Scores, Clock, Counters]:
    clock, counters = Clock(), Counters()
    return Scores(clock, counters), clock, counters


def test_charges_beyond_the_limit_ban_and_tell() -> None:
    scores, _, counters = made()
    told: list[tuple[str, str]] = []
    scores.on_ban(lambda peer_id, reason: told.append((peer_id, reason)))
    for _ in range(int(LIMIT)):
        assert not scores.charge("hostile", "nonsense")
    assert scores.level("hostile") == LIMIT
    assert scores.charge("hostile", "nonsense")
    assert scores.is_banned("hostile")
    assert not scores.is_banned("other")
    assert told == [("hostile", "nonsense")]
    assert counters["banned", "nonsense"] == 1
    assert not scores.charge("hostile", "nonsense")  # what was under way when the ban came


def test_a_ban_ends_and_the_peer_begins_anew() -> None:
    scores, clock, _ = made()
    assert scores.charge("hostile", "x", LIMIT + 1)
    assert scores.bans() == {"hostile": BAN_S}
    clock.now += BAN_S - 1
    assert scores.is_banned("hostile")
    clock.now += 1
    assert not scores.bans()
    assert not scores.is_banned("hostile")
    assert scores.level("hostile") == 0
    assert not scores.charge("hostile", "x")


def test_costs_leak_away() -> None:
    scores, clock, _ = made()
    for _ in range(3):
        assert not scores.charge("clumsy", "x", LIMIT)
        clock.now += LIMIT / LEAK_PER_S
    assert scores.level("clumsy") == 0


def test_the_tables_are_bounded() -> None:
    scores, clock, _ = made()
    scores.charge("regular", "x")
    for number in range(MAX_SCORES + 50):
        scores.charge(f"newcomer {number}", "x")
        if number % 1000 == 0:
            scores.charge("regular", "x")
    assert len(scores._levels) == MAX_SCORES
    assert scores.level("regular") > 1
    for number in range(MAX_BANS + 50):
        clock.now += 0.001
        assert scores.charge(f"hostile {number}", "x", LIMIT + 1)
    assert len(scores.bans()) == MAX_BANS
    assert not scores.is_banned("hostile 0")  # the one that would have ended soonest
    assert scores.is_banned(f"hostile {MAX_BANS + 49}")


def test_one_fault_bans_nobody_and_honest_rates_never_do() -> None:
    assert max(COSTS.values()) < LIMIT
    scores, clock, _ = made()
    for _ in range(10_000):  # 30 requests a second beyond the allowed ones
        clock.now += 1 / 30
        assert not scores.charge("busy", "request_refused")


@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0, 50)), max_size=60))
def test_a_peer_is_banned_exactly_when_its_costs_outrun_the_leak(
    charges: list[tuple[float, float]],
) -> None:
    scores, clock, _ = made()
    level = 0.0
    for pause, cost in charges:
        clock.now += pause
        level = max(0.0, level - pause * LEAK_PER_S) + cost
        assert abs(level - LIMIT) < 1e-6 or scores.charge("peer", "x", cost) == (level > LIMIT)
        if level >= LIMIT - 1e-6:
            return
        assert abs(scores.level("peer") - level) < 1e-6
