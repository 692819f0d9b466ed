"""Weights: quorum, blocking weight and the stake cap (rules 1 and 13)."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus import validators
from consensus.proposer import proposer_schedule
from consensus.validators import Voters, effective_weights, is_blocking, is_quorum
from tests.consensus.builders import NETWORK, key_of, make_set, make_voters, patient

WEIGHT = st.one_of(
    st.integers(1, 12), st.integers(1, 2**63 - 1), st.sampled_from([1, 2, 3, 2**62, 2**63 - 1])
)
SMALL_SET = st.lists(WEIGHT, min_size=1, max_size=7)


@pytest.mark.parametrize(
    ("weight", "total", "quorum", "blocking"),
    [
        (1, 1, True, True),
        (0, 1, False, False),
        (1, 2, False, True),
        (2, 2, True, True),
        (1, 3, False, True),  # an exact third blocks
        (2, 3, False, True),  # an exact two thirds is no quorum
        (3, 3, True, True),
        (2, 4, False, True),
        (3, 4, True, True),
        (1, 4, False, False),
        (2**63 - 1, 2**63 - 1, True, True),
        (2 * 3**39, 3**40, False, True),
        (2 * 3**39 + 1, 3**40, True, True),
        (3**39, 3**40, False, True),
        (3**39 - 1, 3**40, False, False),
        (6148914691236517205, 2**63 - 1, True, True),
        (6148914691236517204, 2**63 - 1, False, True),
    ],
)
def test_rule_1_boundaries(weight: int, total: int, quorum: bool, blocking: bool):
    assert is_quorum(weight, total) is quorum
    assert is_blocking(weight, total) is blocking


@patient
@given(st.integers(1, 2**70), st.data())
def test_rule_1_agrees_with_fractions(total: int, data: st.DataObject):
    weight = data.draw(st.integers(0, total))
    assert is_quorum(weight, total) is (Fraction(weight, total) > Fraction(2, 3))
    assert is_blocking(weight, total) is (Fraction(weight, total) >= Fraction(1, 3))


@patient
@given(st.integers(1, 2**70), st.data())
def test_rule_1_blocking_is_what_leaves_no_quorum(total: int, data: st.DataObject):
    weight = data.draw(st.integers(0, total))
    assert is_blocking(weight, total) is not is_quorum(total - weight, total)


@patient
@given(SMALL_SET)
def test_rule_1_two_quorums_share_more_than_a_third(weights: list[int]):
    voters = make_voters(*weights)
    indices = range(len(weights))
    subsets = [set(c) for n in range(len(weights) + 1) for c in combinations(indices, n)]
    quorums = [subset for subset in subsets if voters.is_quorum(subset)]
    assert set(indices) in quorums
    lightest = min(quorums, key=voters.weight_of)
    for quorum in quorums:
        shared = voters.weight_of(quorum & lightest)
        assert 3 * shared > voters.total
        assert voters.is_blocking(quorum & lightest)


@patient
@given(SMALL_SET)
def test_rule_1_faulty_weight_never_reaches_either_bound(weights: list[int]):
    """F with 3F < T: it cannot block, and the rest is a quorum."""
    voters = make_voters(*weights)
    for size in range(len(weights) + 1):
        for faulty in combinations(range(len(weights)), size):
            if 3 * voters.weight_of(faulty) < voters.total:
                assert not voters.is_blocking(faulty)
                assert voters.is_quorum(set(range(len(weights))) - set(faulty))


def test_rule_1_signers_count_once():
    voters = make_voters(1, 1, 1, 1)
    assert voters.weight_of([2, 2, 2]) == 1
    assert not voters.is_quorum([0, 1, 1, 1])
    assert voters.is_quorum([0, 1, 3])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_rule_1_small_sets_tolerate_no_fault(size: int):
    voters = make_voters(*[5] * size)
    assert voters.is_quorum(range(size))
    assert not voters.is_quorum(range(size - 1))
    assert voters.is_blocking([0])


# --- the stake cap ---------------------------------------------------------------------------


def capped(weights: list[int], cap: int) -> int:
    return sum(min(weight, cap) for weight in weights)


def brute_force(weights: list[int]) -> tuple[int, ...]:
    """Rule 13 read literally: try every cap."""
    if len(weights) <= 4:
        return tuple(weights)
    caps = range(sum(weights) + 1)
    first = max(cap for cap in caps if 4 * cap <= capped(weights, cap))
    second = min(cap for cap in caps if 2 * capped(weights, cap) >= sum(weights))
    return tuple(min(weight, max(first, second)) for weight in weights)


@patient
@given(st.lists(st.integers(1, 60), min_size=1, max_size=9))
def test_rule_13_matches_a_search_over_every_cap(weights: list[int]):
    assert effective_weights(weights) == brute_force(weights)


@patient
@given(st.lists(WEIGHT, min_size=1, max_size=4))
def test_rule_13_sets_of_four_are_not_capped(weights: list[int]):
    assert effective_weights(weights) == tuple(weights)


@patient
@given(st.lists(WEIGHT, min_size=1, max_size=64))
def test_rule_13_nobodys_share_more_than_doubles(weights: list[int]):
    effective = effective_weights(weights)
    for raw, capped_weight in zip(weights, effective, strict=True):
        assert 1 <= capped_weight <= raw
        assert capped_weight * sum(weights) <= 2 * raw * sum(effective)


@patient
@given(st.lists(WEIGHT, min_size=5, max_size=64))
def test_rule_13_only_the_half_rule_lets_anybody_keep_more_than_a_quarter(weights: list[int]):
    effective = effective_weights(weights)
    heaviest = max(effective)
    if 4 * heaviest > sum(effective):
        # A lower cap would have shifted more than half of the stake.
        assert 2 * capped(weights, heaviest - 1) < sum(weights)


@patient
@given(st.lists(WEIGHT, min_size=5, max_size=20))
def test_rule_13_keeps_the_order_of_weights(weights: list[int]):
    effective = effective_weights(weights)
    for (raw, one), (other_raw, other) in combinations(zip(weights, effective, strict=True), 2):
        assert one >= other if raw >= other_raw else one <= other


@pytest.mark.parametrize(
    ("weights", "effective"),
    [
        ((100, 1, 1, 1, 1), (48, 1, 1, 1, 1)),  # half of 104 stays: 48 + 4
        ((10, 10, 10, 10, 10), (10, 10, 10, 10, 10)),
        ((30, 10, 10, 10, 10), (13, 10, 10, 10, 10)),  # 4 * 13 <= 53, and 4 * 14 > 54
        ((2**63 - 1,) * 6, (2**63 - 1,) * 6),
        ((5, 1, 1, 1), (5, 1, 1, 1)),
    ],
)
def test_rule_13_worked_examples(weights: tuple[int, ...], effective: tuple[int, ...]):
    assert effective_weights(weights) == effective


# --- the set ---------------------------------------------------------------------------------


def test_voters_use_effective_weights_for_everything():
    voters = make_voters(100, 1, 1, 1, 1)
    assert voters.weights == (48, 1, 1, 1, 1)
    assert voters.total == 52
    assert voters.weight_of([0]) == 48
    assert len({voters.primary(view) for view in range(52)}) == 5


def test_voters_find_keys():
    voters = Voters(make_set({"A": 1, "B": 2}), NETWORK)
    assert voters.index_of_key(key_of("B")) == 1
    assert voters.index_of_key(key_of("Z")) is None
    assert voters.key(0) == key_of("A")
    assert len(voters) == 2


def test_rule_3_the_domain_names_network_epoch_and_set():
    base = Voters(make_set({"A": 1, "B": 2}), NETWORK).domain
    others = [
        Voters(make_set({"A": 1, "B": 2}, epoch=1), NETWORK, after=9).domain,
        Voters(make_set({"A": 2, "B": 2}), NETWORK).domain,
        Voters(make_set({"B": 2, "A": 1}), NETWORK).domain,
        Voters(make_set({"A": 1, "B": 2}), bytes(32)).domain,
    ]
    assert base not in others


def test_the_schedule_is_made_once_and_only_for_whom_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, ...]] = []

    def counted(weights: tuple[int, ...]) -> tuple[int, ...]:
        made.append(weights)
        return proposer_schedule(weights)

    monkeypatch.setattr(validators, "proposer_schedule", counted)
    voters = make_voters(1, 1, 1)
    assert voters.is_quorum([0, 1, 2])
    assert made == []
    assert [voters.primary(view) for view in range(4)] == [0, 1, 2, 0]
    assert made == [(1, 1, 1)]
