"""How submissions time out, and which of a miner's scores counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import digest_of
from protocol.records.result import Disputed
from protocol.view import DictView
from registry import keys
from registry.access import read
from registry.pending import unsettled
from registry.submissions import best_scores, expire, state_verdict
from tests.registry.support import WORLD, D, admitted, result_of, settle, slot
from tests.support import make_verdict


def best(view: DictView, epoch: int) -> dict[str, dict[int, int]]:
    """Return the best scores by challenge and miner's number."""
    number = {miner.public_key: place for place, miner in enumerate(WORLD.miners)}
    return {
        name: {number[hotkey]: one.score for hotkey, one in found.items()}
        for name, found in best_scores(view, epoch).items()
    }


def test_it_is_disputed_after_d_slots_and_not_before() -> None:
    view = WORLD.state()
    first = admitted(view, at=slot(1))
    second = admitted(view, b"second", at=slot(2))
    state_verdict(view, WORLD.voters, slot(2), 0, make_verdict(first))
    assert expire(view, slot(D)) == []
    (event,) = expire(view, slot(1 + D))
    result = result_of(event)
    assert (result.submission_id, result.settled_seq) == (first, 1 + D)
    assert result.basis == Disputed(reason="timeout")
    assert [entry[0] for entry in unsettled(view)] == [second]
    assert expire(view, slot(1 + D)) == []
    assert [result_of(event).submission_id for event in expire(view, slot(100))] == [second]


def test_what_has_ended_does_not_time_out() -> None:
    view = WORLD.state()
    settle(view, admitted(view), 1, slot(2))
    assert expire(view, slot(1 + D)) == []
    assert not list(view.items(keys.DEADLINE))
    assert not list(view.items(keys.PENDING))


@given(st.permutations([3, 0, 7, 5]))
def test_a_miners_best_score_of_the_epoch_counts(scores: list[int]) -> None:
    view = WORLD.state()
    for score in scores:
        submission_id = admitted(view, b"body %d" % score)
        settle(view, submission_id, score, slot(2))
    assert best(view, 0) == {"alpha": {0: 7}}


def test_scores_are_kept_by_epoch_challenge_and_miner() -> None:
    view = WORLD.state()
    straggler = admitted(view, b"straggler", expiry_epoch=9)
    settle(view, admitted(view, b"one"), 5, slot(2))
    settle(view, admitted(view, b"two", miner=1), 6, slot(2))
    settle(view, admitted(view, b"three", challenge_id="beta"), 7, slot(2))
    settle(view, straggler, 1, slot(3, epoch=1))
    assert best(view, 0) == {"alpha": {0: 5, 1: 6}, "beta": {0: 7}}
    assert best(view, 1) == {"alpha": {0: 1}}
    assert best_scores(view, 2) == {}


def test_the_best_score_names_its_submission() -> None:
    view = WORLD.state()
    first = admitted(view, b"one")
    settle(view, first, 5, slot(2))
    settle(view, admitted(view, b"two"), 5, slot(2))
    known = read(view, keys.Best, keys.best_key(0, "alpha", WORLD.miners[0].public_key))
    assert known == keys.Best(score=5, submission_id=first, uid=WORLD.uid(0))
    assert digest_of(WORLD.submission(b"one")) == first
