"""How long validators wait for each other before they ask for an admission."""

from __future__ import annotations

from collections import Counter

from protocol.codec import sha256
from validator_node.admission_turns import CEILING_S, FLOOR_S, AdmissionTurns


class Clock:
    """Seconds, set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def of(number: int) -> bytes:
    return sha256(b"%d" % number)


def test_each_submission_has_its_own_order_of_all_validators() -> None:
    first: Counter[int] = Counter()
    for number in range(400):
        ranks = [AdmissionTurns.rank(of(number), me, 4) for me in range(4)]
        assert sorted(ranks) == [0, 1, 2, 3]
        first[ranks.index(0)] += 1
    assert min(first.values()) > 60


def test_the_patience_follows_what_admissions_take() -> None:
    clock = Clock()
    turns = AdmissionTurns(clock)
    assert turns.patience_s == FLOOR_S
    for number in range(50):
        turns.asked(of(number))
        clock.now += 8
        turns.ended(of(number), admitted=True)
    assert 8 <= turns.patience_s < 9
    for number in range(100):
        turns.asked(of(number))
        clock.now += 0.1
        turns.ended(of(number), admitted=True)
    assert turns.patience_s == FLOOR_S


def test_what_has_waited_longer_than_the_average_counts_at_once() -> None:
    clock = Clock()
    turns = AdmissionTurns(clock)
    turns.asked(of(1))
    turns.asked(of(2))
    clock.now = 9
    assert turns.patience_s == 9
    turns.asked(of(1))
    turns.ended(of(2), admitted=False)
    assert turns.patience_s == FLOOR_S
    clock.now = 9 + 2 * CEILING_S
    assert turns.patience_s == CEILING_S
