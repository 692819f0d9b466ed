"""The schedule of primaries (rule 6)."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from math import gcd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.proposer import MAX_SCHEDULE, proposer_schedule
from tests.consensus.builders import make_voters, patient

# CometBFT, types/validator_set_test.go, TestProposerSelection1: foo=1000, bar=300, baz=330.
KNOWN_ANSWER = (
    "foo baz foo bar foo foo baz foo bar foo foo baz foo foo bar foo baz foo foo bar foo foo baz "
    "foo bar foo foo baz foo bar foo foo baz foo foo bar foo baz foo foo bar foo baz foo foo bar "
    "foo baz foo foo bar foo baz foo foo foo baz bar foo foo foo baz foo bar foo foo baz foo bar "
    "foo foo baz foo bar foo foo baz foo bar foo foo baz foo foo bar foo baz foo foo bar foo baz "
    "foo foo bar foo baz foo foo"
)
KNOWN_WEIGHTS = {"foo": 1000, "bar": 300, "baz": 330}


def period_of(weights: list[int]) -> int:
    return sum(weights) // gcd(*weights)


@pytest.mark.parametrize("order", list(permutations(KNOWN_WEIGHTS)))
def test_rule_6_known_answer(order: tuple[str, ...]):
    """No tie arises within the published entries, so that the order of the set plays no part."""
    schedule = proposer_schedule([KNOWN_WEIGHTS[name] for name in order])
    assert " ".join(order[index] for index in schedule[:99]) == KNOWN_ANSWER
    assert KNOWN_ANSWER.count(" ") == 98
    assert len(schedule) == 163


def restated(weights: list[int], count: int) -> list[int]:
    """The algorithm once more, on shares of one instead of weights: a rational restatement.

    After k steps validator i is owed k * share - (times led); the one most in debt leads.
    """
    led = [0] * len(weights)
    schedule = []
    for step in range(1, count + 1):
        owed = [step * weight - sum(weights) * times for weight, times in zip(weights, led)]  # noqa: B905
        leader = owed.index(max(owed))
        led[leader] += 1
        schedule.append(leader)
    return schedule


@patient
@given(st.lists(st.integers(1, 50), min_size=1, max_size=8))
def test_rule_6_equals_its_restatement(weights: list[int]):
    schedule = proposer_schedule(weights)
    assert list(schedule) == restated(weights, len(schedule))


@patient
@given(st.lists(st.integers(1, 50), min_size=1, max_size=8))
def test_rule_6_over_a_period_everybody_leads_in_proportion(weights: list[int]):
    schedule = proposer_schedule(weights)
    assert len(schedule) == period_of(weights)
    counts = Counter(schedule)
    assert [counts[index] for index in range(len(weights))] == [
        weight // gcd(*weights) for weight in weights
    ]


@patient
@given(st.lists(st.integers(1, 50), min_size=2, max_size=8))
def test_rule_6_is_smooth(weights: list[int]):
    """In every prefix nobody is ahead of its share by a turn, or behind by one for each other."""
    total, led = sum(weights), [0] * len(weights)
    for step, leader in enumerate(proposer_schedule(weights), 1):
        led[leader] += 1
        for weight, times in zip(weights, led, strict=True):
            assert times * total < step * weight + total
            assert times * total > step * weight - (len(weights) - 1) * total


@patient
@given(st.lists(st.integers(1, 2**63 - 1), min_size=1, max_size=30))
def test_rule_6_the_length_is_capped(weights: list[int]):
    schedule = proposer_schedule(weights)
    assert len(schedule) == min(period_of(weights), MAX_SCHEDULE)
    assert set(schedule) <= set(range(len(weights)))


def test_rule_6_cap_and_edges():
    assert MAX_SCHEDULE == 1024
    assert len(proposer_schedule([1, 1023])) == 1024
    assert len(proposer_schedule([2, 1023])) == 1024
    assert len(proposer_schedule([2, 1022])) == 512
    assert proposer_schedule([2**63 - 1]) == (0,)
    assert proposer_schedule([7]) == (0,)


def test_rule_6_ties_go_to_the_lower_index():
    assert proposer_schedule([1, 1, 1]) == (0, 1, 2)
    assert proposer_schedule([2, 2]) == (0, 1)
    assert proposer_schedule([1, 2, 2]) == (1, 2, 0, 1, 2)


def test_rule_6_the_heavy_do_not_lead_many_times_in_a_row():
    schedule = proposer_schedule([5, 1, 1])
    assert schedule == (0, 0, 1, 0, 2, 0, 0)


def test_rule_6_views_beyond_the_schedule_start_it_again():
    voters = make_voters(5, 1, 1)
    assert [voters.primary(view) for view in range(9)] == [0, 0, 1, 0, 2, 0, 0, 0, 0]
    assert voters.primary(7 * 10**15 + 2) == 1
