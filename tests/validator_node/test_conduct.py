"""What validators' useless messages cost: nothing much for honest ones, the ban for the rest."""

from __future__ import annotations

import pytest

from validator_node.conduct import HOSTILE, cost_of
from validator_node.network.counters import Counters
from validator_node.network.scores import LIMIT, Scores


@pytest.mark.parametrize("reason", ["stale", "duplicate", "other_view", "gap", "past_quorum"])
def test_what_honest_validators_repeat_costs_next_to_nothing(reason: str) -> None:
    scores = Scores(lambda: 1000.0, Counters())
    assert reason not in HOSTILE
    assert not any(scores.charge("straggler", reason, cost_of(reason)) for _ in range(10_000))


def test_bad_statements_ban_before_they_have_cost_us_much() -> None:
    scores = Scores(lambda: 1000.0, Counters())
    cost = cost_of("bad_statement")
    banned = [scores.charge("hostile", "bad_statement", cost) for _ in range(21)]
    assert banned == [False] * 20 + [True]


@pytest.mark.parametrize("reason", sorted(HOSTILE))
def test_what_no_honest_validator_sends_bans_it(reason: str) -> None:
    scores = Scores(lambda: 1000.0, Counters())
    banned = [scores.charge("hostile", reason, cost_of(reason)) for _ in range(int(LIMIT) + 1)]
    assert banned.index(True) == LIMIT
