from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.weights import aggregate, chain_upscale, is_normal_form, normal_form

UIDS = st.integers(0, 65535)
SCORES = st.dictionaries(UIDS, st.integers(0, 10**12), max_size=12)
NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
BEST = st.dictionaries(NAMES, SCORES, max_size=5)
EMISSION = st.dictionaries(NAMES, st.integers(0, 10**6), max_size=5)
WEIGHTS = st.dictionaries(
    UIDS, st.fractions(min_value=0, max_value=10, max_denominator=10**9), max_size=30
)
VECTORS = st.lists(st.tuples(UIDS, st.integers(0, 65535)), max_size=40).map(tuple)


def recomputed(best: dict[str, dict[int, int]], emission: dict[str, int]) -> dict[int, Fraction]:
    """The formula uid by uid, as it stands in the docstring; independent of the code's order."""
    uids = {uid for scores in best.values() for uid in scores}
    weights = {}
    for uid in uids:
        weights[uid] = sum(
            (
                Fraction(emission[name], sum(emission.values()))
                * Fraction(scores.get(uid, 0), sum(scores.values()))
                for name, scores in best.items()
                if emission.get(name) and sum(scores.values())
            ),
            Fraction(0),
        )
    return {uid: weight for uid, weight in weights.items() if weight}


def test_aggregate_by_hand():
    best = {"a": {1: 2, 2: 1}, "b": {2: 5}}
    assert aggregate(best, {"a": 3, "b": 1}) == {1: Fraction(1, 2), 2: Fraction(1, 2)}


def test_a_challenge_without_scores_contributes_nothing_but_keeps_its_share():
    best = {"a": {1: 1}, "b": {2: 0}}
    assert aggregate(best, {"a": 1, "b": 2, "c": 1}) == {1: Fraction(1, 4)}


def test_a_challenge_that_is_not_registered_contributes_nothing():
    assert aggregate({"a": {1: 1}, "gone": {2: 9}}, {"a": 1}) == {1: Fraction(1)}


@pytest.mark.parametrize("emission", [{}, {"a": 0}])
def test_no_emission_gives_no_weights(emission: dict[str, int]):
    assert aggregate({"a": {1: 1}}, emission) == {}


def test_negative_figures_are_named():
    with pytest.raises(ValueError, match="challenge 'a': emission -1"):
        aggregate({}, {"a": -1})
    with pytest.raises(ValueError, match="challenge 'a', uid 3: score -1"):
        aggregate({"a": {3: -1}}, {"a": 1})


@given(BEST, EMISSION)
def test_aggregate_equals_an_independent_recomputation(best, emission):
    assert aggregate(best, emission) == recomputed(best, emission)


@given(BEST, EMISSION, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(best, emission, random):
    def shuffled(mapping):
        items = list(mapping.items())
        random.shuffle(items)
        return dict(items)

    reordered = shuffled({name: shuffled(scores) for name, scores in best.items()})
    expected = aggregate(best, emission)
    actual = aggregate(reordered, shuffled(emission))
    assert list(actual.items()) == list(expected.items())
    assert normal_form(actual) == normal_form(expected)


@given(BEST, EMISSION)
def test_weights_sum_to_the_share_of_the_challenges_with_scores(best, emission):
    contributing = sum(
        units for name, units in emission.items() if sum(best.get(name, {}).values()) > 0
    )
    total = sum(emission.values())
    expected = Fraction(contributing, total) if total else 0
    assert sum(aggregate(best, emission).values()) == expected


def test_normal_form_by_hand():
    weights = {7: Fraction(1, 2), 3: Fraction(1, 3), 9: Fraction(1, 6)}
    assert normal_form(weights) == ((3, 43690), (7, 65535), (9, 21845))


def test_halves_round_to_even_and_zeros_are_dropped():
    unit = Fraction(1, 65535)
    weights = {1: Fraction(1), 2: unit / 2, 3: unit * 3 / 2, 4: unit * 5 / 2, 5: Fraction(0)}
    assert normal_form(weights) == ((1, 65535), (3, 2), (4, 2))


def test_the_smallest_weight_that_the_chain_knows_is_kept():
    assert normal_form({1: Fraction(1), 2: Fraction(1, 65535)}) == ((1, 65535), (2, 1))


@pytest.mark.parametrize("weights", [{}, {0: Fraction(0)}, {0: Fraction(0), 5: Fraction(0)}])
def test_nothing_but_zeros_is_empty_and_not_a_burn(weights):
    assert normal_form(weights) == ()


@pytest.mark.parametrize("weights", [{-1: Fraction(1)}, {65536: Fraction(1)}, {1: Fraction(-1)}])
def test_what_fits_no_vector_is_refused(weights):
    with pytest.raises(ValueError, match="want a u16 and a weight >= 0"):
        normal_form(weights)


@given(WEIGHTS)
def test_the_chain_stores_the_normal_form_unchanged(weights):
    vector = normal_form(weights)
    assert is_normal_form(vector)
    assert chain_upscale(vector) == vector


@given(WEIGHTS, st.fractions(min_value="1/1000", max_value=1000))
def test_normal_form_does_not_depend_on_scale(weights, factor):
    scaled = {uid: weight * factor for uid, weight in weights.items()}
    assert normal_form(scaled) == normal_form(weights)


@pytest.mark.parametrize(
    ("submitted", "stored"),
    [
        ((32768, 21845, 10922), (65535, 43689, 21844)),
        ((40000, 20000, 5535), (65535, 32767, 9068)),
        ((43690, 21845), (65535, 32768)),
        ((65534, 32767), (65535, 32767)),
        ((), ()),
        ((0,), (0,)),
        ((0, 0), (0, 0)),
        ((1,), (65535,)),
        ((0, 1), (0, 65535)),
        ((65534,), (65535,)),
        ((65535, 65535), (65535, 65535)),
        ((0, 1, 65534), (0, 1, 65535)),
        ((0, 1, 2, 3, 4, 65533, 65535), (0, 1, 2, 3, 4, 65533, 65535)),
    ],
)
def test_upscale_agrees_with_the_pallets_own_vectors(submitted, stored):
    """The first four by hand: 10922 * 65535 / 32768 = 21843.67; 20000 * trunc32(1.638375) is just

    below 32767.5; 21845 * 1.5 is a half and goes up. The others are subtensor's unit tests.
    """
    vector = tuple(enumerate(submitted))
    assert chain_upscale(vector) == tuple(enumerate(stored))


@given(VECTORS)
def test_upscale_is_idempotent_keeps_order_and_is_near_the_exact_ratio(vector):
    stored = chain_upscale(vector)
    assert chain_upscale(stored) == stored
    assert [uid for uid, _ in stored] == [uid for uid, _ in vector]
    largest = max((value for _, value in vector), default=0)
    if largest:
        assert max(value for _, value in stored) == 65535
        for (_, before), (_, after) in zip(vector, stored, strict=True):
            assert abs(after - Fraction(before * 65535, largest)) <= Fraction(1, 2) + Fraction(
                1, 10**4
            )


def test_upscale_refuses_what_is_no_u16():
    for value in (-1, 65536):
        with pytest.raises(ValueError, match=f"uid 1: weight {value}"):
            chain_upscale(((1, value),))


@pytest.mark.parametrize(
    "vector",
    [
        ((1, 65534),),
        ((2, 65535), (1, 1)),
        ((1, 65535), (1, 1)),
        ((1, 65535), (2, 0)),
        ((65536, 65535),),
        ((-1, 65535),),
    ],
)
def test_what_is_not_normal_form(vector):
    assert not is_normal_form(vector)
