from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.fitting import Fitted, fit, weight_cap
from chain.interface import MAX_WEIGHT
from chain.rules import is_within_limit
from chain.weights import chain_upscale, is_normal_form, normal_form

UIDS = st.integers(0, 300)
POSITIVE = st.builds(Fraction, st.integers(1, 10**6), st.integers(1, 10**6))
WEIGHTS = st.dictionaries(UIDS, POSITIVE, min_size=1, max_size=12)
LIMITS = st.integers(1, MAX_WEIGHT)


def by_hand(**changes: int) -> Fitted:
    limits = {"max_limit": MAX_WEIGHT, "min_length": 0, **changes}
    return fit({1: Fraction(8), 2: Fraction(1), 3: Fraction(1)}, range(6), **limits)


def test_without_limits_it_is_the_normal_form() -> None:
    assert by_hand() == Fitted(((1, 65535), (2, 8192), (3, 8192)))


def test_the_largest_share_by_hand() -> None:
    assert by_hand(max_limit=26214) == Fitted(((1, 65535), (2, 49152), (3, 49152)))


def test_missing_entries_are_the_lowest_uids_and_are_named() -> None:
    padded = ((0, 1), (1, 65535), (2, 8192), (3, 8192), (4, 1))
    assert by_hand(min_length=5) == Fitted(padded, (0, 4))
    assert by_hand(min_length=3) == by_hand()
    assert len(by_hand(min_length=99).vector) == 6


def test_too_few_for_the_limit_have_no_vector() -> None:
    assert by_hand(max_limit=21844) == Fitted(reason="max_weight")
    assert by_hand(max_limit=21845).vector == ((1, 65535), (2, 65535), (3, 65535))


def test_who_earned_nothing_gets_nothing_not_even_padding() -> None:
    for weights in ({}, {4: Fraction(0)}):
        fitted = fit(weights, range(6), max_limit=MAX_WEIGHT, min_length=3)
        assert fitted == Fitted(reason="no_weights")


def test_a_cap_needs_weights() -> None:
    with pytest.raises(ValueError, match="no weights"):
        weight_cap([], 100)


@given(st.lists(POSITIVE, min_size=1, max_size=12), LIMITS)
def test_the_cap_is_the_largest_that_holds(weights: list[Fraction], limit: int) -> None:
    def holds(cap: Fraction) -> bool:
        return MAX_WEIGHT * cap <= limit * sum(min(weight, cap) for weight in weights)

    cap = weight_cap(weights, limit)
    assert holds(cap)
    assert (cap == 0) == (len(weights) * limit < MAX_WEIGHT)
    if cap < max(weights):
        assert not holds(cap + Fraction(1, 10**30))


@given(WEIGHTS, LIMITS, st.integers(0, 40), st.sets(UIDS, max_size=30))
def test_the_chain_accepts_what_fits_and_stores_it_as_it_is(
    weights: dict[int, Fraction], limit: int, length: int, others: set[int]
) -> None:
    uids = {*weights, *others}
    fitted = fit(weights, uids, max_limit=limit, min_length=length)
    if fitted.reason:
        assert fitted == Fitted(reason="max_weight")
        assert len(weights) * limit < MAX_WEIGHT
        return
    vector = fitted.vector
    assert is_normal_form(vector)
    assert chain_upscale(vector) == vector
    assert is_within_limit([value for _, value in vector], limit)
    assert len(vector) >= min(length, len(uids))
    assert {uid for uid, _ in vector} <= uids
    assert all(dict(vector)[uid] == 1 for uid in fitted.padded)
    assert list(fitted.padded) == sorted(fitted.padded)


@given(WEIGHTS, st.integers(6000, MAX_WEIGHT))
def test_who_earned_more_never_has_less(weights: dict[int, Fraction], limit: int) -> None:
    fitted = fit(weights, weights, max_limit=limit, min_length=0)
    if fitted.reason:
        return
    values = dict(fitted.vector)
    ranked = sorted(weights, key=lambda uid: weights[uid])
    assert [values.get(uid, 0) for uid in ranked] == sorted(values.get(uid, 0) for uid in ranked)


@given(st.dictionaries(UIDS, st.integers(1, MAX_WEIGHT), min_size=1, max_size=20), st.booleans())
def test_the_normal_form_is_what_the_chain_would_make_within_one(
    values: dict[int, int], with_top: bool
) -> None:
    """With a 65535 among them nothing changes; else the chain's own rounding is at most 1 off.

    Its division truncates at 32 bits before it multiplies, and halves go away from zero there.
    """
    if with_top:
        values[min(values)] = MAX_WEIGHT
    vector = tuple(sorted(values.items()))
    ours = dict(normal_form({uid: Fraction(value) for uid, value in vector}))
    stored = dict(chain_upscale(vector))
    assert all(abs(ours.get(uid, 0) - stored[uid]) <= 1 for uid in stored)
    if max(values.values()) == MAX_WEIGHT:
        assert ours == stored == values
