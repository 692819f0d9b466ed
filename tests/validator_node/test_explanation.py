from __future__ import annotations

from fractions import Fraction

import pytest

from protocol.codec import sha256
from protocol.records.weights import Masked
from protocol.view import DictView
from tests.support import STRANGER, World, make_challenge, make_verdict, replaced
from tests.validator_node.test_execution import run, settle
from validator_node.explanation import Explanation, explain

SCORES = {("alpha", 0): 2, ("alpha", 1): 1, ("beta", 1): 5, ("beta", 2): 0}


def closed(
    scores: dict[tuple[str, int], int], neurons: dict[int, dict] | None = None, **rules: int
) -> tuple[World, DictView]:
    """Return a state that closed epoch 0; `neurons` changes the metagraph by uid, {} removes."""
    world = World()
    view = world.state()
    settle(world, view, scores)
    changed = {neuron.uid: neuron for neuron in world.genesis.neurons}
    for uid, change in (neurons or {}).items():
        changed[uid] = replaced(changed[uid], **change)
        if not change:
            del changed[uid]
    metagraph = world.metagraph(1, neurons=tuple(changed.values()))
    metagraph = replaced(metagraph, rules=replaced(metagraph.rules, **rules))
    run(world, view, 100, *world.agreeing(metagraph, range(3)))
    assert len(run(world, view, 104).weights) == 1
    return world, view


def explained(view: DictView, uid: int) -> Explanation:
    found = explain(view, uid)
    assert found is not None
    return found


def test_before_the_first_edge_there_is_nothing_to_explain() -> None:
    assert explain(World().state(), 4) is None


def test_the_parts_add_up_to_the_weight() -> None:
    world, view = closed(SCORES)
    both = explained(view, world.uid(1))
    assert [(part.challenge_id, part.amount) for part in both.parts] == [
        ("alpha", Fraction(1, 4)), ("beta", Fraction(1, 4)),
    ]  # fmt: skip
    assert (both.weights, both.reasons, both.epoch) == ({0: 65535}, {0: "earned"}, 0)
    assert both.hotkey == world.miners[1].public_key
    assert both.results == {"scored": 2}
    first = explained(view, world.uid(0))
    assert [part.reason for part in first.parts] == ["", "no_result"]
    body = sha256(b"alpha", bytes([0]))
    assert first.parts[0].submission_id == world.submission(body).submission_id


@pytest.mark.parametrize(
    ("scores", "miner", "reason"),
    [
        (SCORES, 3, "no_result"),
        (SCORES, 2, "nothing_counted"),
        ({**SCORES, ("alpha", 2): 0}, 2, "score_zero"),
        ({("alpha", 0): 1_000_000, ("alpha", 1): 1}, 1, "rounded_to_zero"),
        ({}, 0, "no_scores"),
    ],
)
def test_why_a_weight_is_zero(scores: dict[tuple[str, int], int], miner: int, reason: str) -> None:
    world, view = closed(scores)
    found = explained(view, world.uid(miner))
    assert (found.weights, found.reasons) == ({0: 0}, {0: reason})


def test_who_took_a_uid_over_has_nothing_and_the_mask_is_shown() -> None:
    uid = World().uid(0)
    world, view = closed(SCORES, {uid: {"hotkey": STRANGER.public_key}})
    found = explained(view, uid)
    assert (found.hotkey, found.reasons) == (STRANGER.public_key, {0: "no_result"})
    assert found.masked == (
        Masked(hotkey=world.miners[0].public_key, uid=uid, reason="uid_reused"),
    )


def test_a_uid_that_nobody_holds() -> None:
    uid = World().uid(0)
    _, view = closed(SCORES, {uid: {}})
    found = explained(view, uid)
    assert (found.hotkey, found.reasons, found.results) == (None, {0: "not_registered"}, {})
    assert [one.reason for one in found.masked] == ["deregistered"]


def test_padding_and_a_missing_vector_are_no_merit() -> None:
    world, view = closed(SCORES, min_allowed_weights=3)
    found = explained(view, 0)
    assert (found.weights, found.reasons) == ({0: 1}, {0: "padded"})
    world, view = closed(SCORES, max_weight_limit=100)
    assert explained(view, world.uid(0)).reasons == {0: "max_weight"}


def test_a_mechanism_without_a_challenge_says_so() -> None:
    world, view = closed(SCORES, mechanisms=2)
    assert explained(view, world.uid(0)).reasons == {0: "earned", 1: "no_challenge"}


def test_disputes_and_copies_are_counted() -> None:
    world = World(dispute_after=2)
    view = world.state()
    original, copy = world.signed(b"same"), world.signed(b"same", miner=1)
    run(world, view, 1, world.statement(0, original, copy))
    run(world, view, 3)
    run(world, view, 100, *world.agreeing(world.metagraph(1), range(3)))
    run(world, view, 104)
    assert explained(view, world.uid(0)).results == {"disputed": 1}
    assert explained(view, world.uid(1)).results == {"copy": 1}


def test_the_figures_are_the_closed_epochs_even_if_the_catalogue_has_changed() -> None:
    world, view = closed(SCORES)
    before = explained(view, world.uid(1))
    world.begin_epoch(1)
    run(world, view, 105, world.change(1, make_challenge("alpha", version=2, emission=50)))
    signed = world.signed(b"later", miner=1, expiry_epoch=1)
    run(world, view, 106, world.statement(0, signed))
    verdict = make_verdict(signed.submission.submission_id, 99)
    run(world, view, 107, *[world.statement(signer, verdict) for signer in (1, 2, 3)])
    assert explained(view, world.uid(1)) == before
