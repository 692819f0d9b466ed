from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import encode, sha256
from protocol.records.challenge import Challenge
from protocol.records.genesis import Neuron
from protocol.records.metagraph import MAX_CELLS, EpochMetagraph, WeightRules
from protocol.records.weights import MAX_MASKED, EpochWeights, Masked
from registry.keys import Best
from storage.state import MAX_VALUE_BYTES
from tests.support import make_challenge, replaced
from validator_node.epoch_weights import Scores, epoch_weights

HOTKEYS = [sha256(b"miner", bytes([n])) for n in range(10)]
ALPHA, BETA = make_challenge("alpha", emission=3), make_challenge("beta", emission=1)


def graph(uids: dict[int, int], **rules: int) -> EpochMetagraph:
    """Return a metagraph; `uids` maps uids to numbers of hotkeys."""
    limits = {"min_allowed_weights": 0, "max_weight_limit": 65535, "mechanisms": 1, **rules}
    return EpochMetagraph(
        epoch=6,
        block=99,
        block_hash=sha256(b"block"),
        owner=None,
        rules=WeightRules(**limits),
        neurons=tuple(
            Neuron(uid=uid, hotkey=HOTKEYS[n], stake=0, validator_permit=False)
            for uid, n in sorted(uids.items())
        ),
    )


def best(**scores: dict[int, int]) -> Scores:
    """Return scores by challenge and number of hotkey, evaluated under uid 10 + number."""
    return {
        name: {
            HOTKEYS[n]: Best(score=score, submission_id=bytes(32), uid=10 + n)
            for n, score in found.items()
        }
        for name, found in scores.items()
    }


def vector(weights: EpochWeights, mechanism: int = 0) -> dict[int, int]:
    return {entry.uid: entry.weight for entry in weights.mechanisms[mechanism].vector}


def test_a_vector_by_hand() -> None:
    """The example of docs/weights.md."""
    scores = best(alpha={0: 2, 1: 1}, beta={1: 5, 2: 0})
    weights = epoch_weights(5, graph({10: 0, 11: 1, 12: 2}), scores, [ALPHA, BETA])
    assert vector(weights) == {10: 65535, 11: 65535}
    assert [(s.challenge_id, s.emission, s.score_sum, s.reason) for s in weights.shares] == [
        ("alpha", 3, 3, ""), ("beta", 1, 5, ""),
    ]  # fmt: skip
    assert (weights.epoch, weights.block, weights.masked) == (5, 99, ())


def test_a_uid_that_was_registered_anew_inherits_nothing() -> None:
    scores = best(alpha={0: 2, 1: 1})
    weights = epoch_weights(5, graph({10: 7, 11: 1}), scores, [ALPHA])
    assert vector(weights) == {11: 65535}
    assert weights.masked == (Masked(hotkey=HOTKEYS[0], uid=10, reason="uid_reused"),)
    assert weights.shares[0].score_sum == 1


def test_a_hotkey_that_left_gets_nothing() -> None:
    weights = epoch_weights(5, graph({11: 1}), best(alpha={0: 2, 1: 1}), [ALPHA])
    assert weights.masked == (Masked(hotkey=HOTKEYS[0], uid=10, reason="deregistered"),)
    assert weights.masked_count == 1
    assert vector(weights) == {11: 65535}


def test_a_hotkey_that_moved_earns_under_its_new_uid() -> None:
    weights = epoch_weights(5, graph({3: 0, 10: 7}), best(alpha={0: 2}), [ALPHA])
    assert (vector(weights), weights.masked) == ({3: 65535}, ())


def test_a_challenge_without_scores_pays_nobody_and_says_so() -> None:
    scores = best(beta={0: 1, 1: 3})
    weights = epoch_weights(5, graph({10: 0, 11: 1}), scores, [ALPHA, BETA])
    assert [(s.challenge_id, s.reason) for s in weights.shares] == [
        ("alpha", "no_scores"), ("beta", ""),
    ]  # fmt: skip
    assert vector(weights) == {10: 21845, 11: 65535}


def test_without_any_score_there_is_no_vector_and_a_reason() -> None:
    for scores in ({}, best(alpha={0: 0}), best(gone={0: 5})):
        weights = epoch_weights(5, graph({10: 0}, min_allowed_weights=1), scores, [ALPHA])
        assert (vector(weights), weights.mechanisms[0].reason) == ({}, "no_weights")


def test_each_mechanism_has_a_vector_of_its_own() -> None:
    second = replaced(BETA, mechanism=1)
    third = replaced(make_challenge("gamma", emission=9), mechanism=2)
    scores = best(alpha={0: 1}, beta={1: 3, 0: 1}, gamma={1: 9})
    metagraph = graph({10: 0, 11: 1}, mechanisms=2)
    weights = epoch_weights(5, metagraph, scores, [ALPHA, second, third])
    assert [vector(weights, n) for n in (0, 1)] == [{10: 65535}, {10: 21845, 11: 65535}]
    assert [share.reason for share in weights.shares] == ["", "", "no_mechanism"]


def test_the_chains_limits_are_kept() -> None:
    metagraph = graph({10: 0, 11: 1, 12: 2}, max_weight_limit=32768, min_allowed_weights=3)
    weights = epoch_weights(5, metagraph, best(alpha={0: 9, 1: 1}), [ALPHA])
    assert vector(weights) == {10: 65535, 11: 65534, 12: 1}
    assert weights.mechanisms[0].padded == (12,)
    alone = epoch_weights(5, metagraph, best(alpha={0: 9}), [ALPHA])
    assert (vector(alone), alone.mechanisms[0].reason) == ({}, "max_weight")


SCORES = st.dictionaries(
    st.sampled_from(["alpha", "beta", "gamma"]),
    st.dictionaries(st.integers(0, 9), st.integers(0, 10**6), max_size=8),
    max_size=3,
)
PLACES = st.permutations(range(10)).flatmap(
    lambda order: st.integers(0, 10).map(lambda n: {10 + u: order[u] for u in range(n)})
)


@given(SCORES, PLACES, st.integers(0, 1), st.randoms(use_true_random=False))
def test_the_order_of_results_does_not_matter(
    scores: dict[str, dict[int, int]], places: dict[int, int], mechanism: int, rng: random.Random
) -> None:
    challenges = [ALPHA, replaced(BETA, mechanism=mechanism), make_challenge("gamma")]

    def shuffled(mapping: dict) -> dict:
        items = list(mapping.items())
        rng.shuffle(items)
        return dict(items)

    metagraph = graph(places, mechanisms=2)
    expected = epoch_weights(5, metagraph, best(**scores), challenges)
    again = {name: shuffled(found) for name, found in best(**shuffled(scores)).items()}
    rng.shuffle(challenges)
    assert encode(epoch_weights(5, metagraph, again, challenges)) == encode(expected)


@given(SCORES, PLACES)
def test_sum_rules(scores: dict[str, dict[int, int]], places: dict[int, int]) -> None:
    """What is paid is what registered hotkeys earned; a challenge pays no more than its share."""
    challenges = [ALPHA, BETA]
    weights = epoch_weights(5, graph(places), best(**scores), challenges)
    uid_of = {n: uid for uid, n in places.items()}
    due: dict[int, Fraction] = {}
    for share, challenge in zip(weights.shares, challenges, strict=True):
        counted = {n: s for n, s in scores.get(share.challenge_id, {}).items() if n in uid_of}
        assert share.score_sum == sum(counted.values())
        assert share.reason == ("" if share.score_sum else "no_scores")
        for n, score in counted.items():
            if score:
                part = Fraction(challenge.emission * score, 4 * share.score_sum)
                due[uid_of[n]] = due.get(uid_of[n], Fraction(0)) + part
    unpaid = sum(Fraction(share.emission, 4) for share in weights.shares if share.reason)
    assert sum(due.values(), unpaid) == 1
    top = max(due.values(), default=Fraction(1))
    rounded = {uid: round(part / top * 65535) for uid, part in due.items()}
    assert vector(weights) == {uid: value for uid, value in rounded.items() if value}
    masked = {one.hotkey for one in weights.masked}
    assert masked.isdisjoint(HOTKEYS[n] for n in places.values())
    assert all(one.uid not in vector(weights) or one.reason == "uid_reused"
               for one in weights.masked)  # fmt: skip


@pytest.mark.parametrize("mechanisms", [4, 16])
def test_the_largest_epoch_is_one_value_of_the_state(mechanisms: int) -> None:
    count = MAX_CELLS // mechanisms
    keys = [sha256(n.to_bytes(4)) for n in range(count + 400)]
    neurons = tuple(
        Neuron(uid=60_000 + n, hotkey=keys[n], stake=0, validator_permit=False)
        for n in range(count)
    )
    rules = WeightRules(min_allowed_weights=0, max_weight_limit=65535, mechanisms=mechanisms)
    metagraph = replaced(graph({}), neurons=neurons, rules=rules)
    metagraph.check_form()
    found = {key: Best(score=10**6 - n, submission_id=bytes(32), uid=n % 2**16)
             for n, key in enumerate(keys)}  # fmt: skip
    challenges: list[Challenge] = [
        replaced(make_challenge(f"c{n}"), mechanism=n) for n in range(mechanisms)
    ]
    scores = {challenge.challenge_id: found for challenge in challenges}
    weights = epoch_weights(5, metagraph, scores, challenges)
    assert (len(weights.masked), weights.masked_count) == (MAX_MASKED, 400)
    assert len(weights.mechanisms[-1].vector) == count
    assert len(encode(weights)) < MAX_VALUE_BYTES - 65_536
