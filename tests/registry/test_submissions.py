from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.validators import Voters
from protocol.codec import sha256
from protocol.envelope import seed_of
from protocol.records.result import Copy, Disputed, Replicated, Result, result_key
from registry import keys
from registry.access import read, write
from registry.pending import unsettled
from registry.submissions import (
    Admitted,
    Ended,
    NoOp,
    admit,
    best_scores,
    state_verdict,
    why_inadmissible,
)
from tests.registry.support import WORLD, admitted, begin, result_of, settle, slot
from tests.support import STRANGER, World, make_challenge, make_verdict, replaced

# --- admission -----------------------------------------------------------------------------------


def test_admission_fixes_version_and_context() -> None:
    view = WORLD.state()
    write(view, keys.CHALLENGE + b"alpha", make_challenge("alpha", version=7))
    signed = WORLD.signed()
    event = admit(view, slot(3, epoch=0), signed)
    assert isinstance(event, Admitted)
    submission_id = signed.submission.submission_id
    assert (event.submission_id, event.submission) == (submission_id, signed.submission)
    assert event.challenge.version == 7
    assert (event.context.height, event.context.time_ms, event.context.epoch) == (3, 1003, 0)
    assert event.context.seed == seed_of(slot(3).digest, submission_id)
    assert [entry[0] for entry in unsettled(view)] == [submission_id]
    pending = unsettled(view)[0][1]
    assert (pending.uid, pending.challenge_version, pending.stated) == (WORLD.uid(0), 7, ())
    assert pending.context == event.context


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hotkey": STRANGER.public_key}, "unregistered"),
        ({"challenge_id": "gamma"}, "unknown_challenge"),
        ({"challenge_id": "retired"}, "unknown_challenge"),
        ({"challenge_version": 2}, "other_version"),
        ({"body_size": 1001}, "too_large"),
        ({"expiry_epoch": 1}, "expired"),
        ({"expiry_epoch": 2 + 513}, "expires_too_late"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_state_does_not_admit(changes: dict[str, Any], reason: str) -> None:
    view = WORLD.state()
    begin(view, 2)
    write(view, keys.CHALLENGE + b"retired", make_challenge("retired", emission=0))
    signed = WORLD.signed(**{"expiry_epoch": 2, **changes})
    before = dict(view.entries)
    assert why_inadmissible(view, signed.submission) == reason
    assert admit(view, slot(), signed) == NoOp(reason, signed.submission.submission_id)
    assert view.entries == before


@pytest.mark.parametrize(
    "changes",
    [
        {"challenge_version": 1},
        {"body_size": 1000},
        {"expiry_epoch": 2},
        {"expiry_epoch": 2 + 512},
        {"miner": 1},
    ],
)
def test_what_is_just_within_bounds_is_admitted(changes: dict[str, Any]) -> None:
    view = WORLD.state()
    begin(view, 2)
    signed = WORLD.signed(**{"expiry_epoch": 3, **changes})
    assert why_inadmissible(view, signed.submission) is None
    assert isinstance(admit(view, slot(), signed), Admitted)


def test_a_submission_is_admitted_once_before_and_after_it_ends() -> None:
    view = WORLD.state()
    signed = WORLD.signed()
    submission_id = admitted(view)
    assert admit(view, slot(2), signed) == NoOp("duplicate", submission_id)
    settle(view, submission_id, 1, slot(2))
    before = dict(view.entries)
    assert admit(view, slot(3), signed) == NoOp("duplicate", submission_id)
    assert view.entries == before


def test_the_same_body_from_somebody_else_is_a_copy_for_ever() -> None:
    view = WORLD.state()
    original = admitted(view)
    for epoch in (0, 1):
        begin(view, epoch)
        signed = WORLD.signed(miner=1, expiry_epoch=epoch + 1)
        result = result_of(admit(view, slot(2, epoch), signed))
        assert result.basis == Copy(original=original)
        assert (result.uid, result.epoch, result.settled_seq) == (WORLD.uid(1), epoch, 2)
        assert read(view, Result, result_key(signed.submission.submission_id)) == result
    assert [entry[0] for entry in unsettled(view)] == [original]
    assert best_scores(view, 0) == best_scores(view, 1) == {}


def test_the_same_body_again_is_a_copy_within_its_epoch_only() -> None:
    view = WORLD.state()
    original = admitted(view)
    again = admit(view, slot(2), WORLD.signed(expiry_epoch=2))
    assert result_of(again).basis == Copy(original=original)
    begin(view, 1)
    later = admitted(view, at=slot(3, epoch=1), expiry_epoch=3)
    third = admit(view, slot(4, epoch=1), WORLD.signed(expiry_epoch=4))
    assert result_of(third).basis == Copy(original=later)


def test_another_challenge_or_body_is_no_copy() -> None:
    view = WORLD.state()
    admitted(view)
    admitted(view, challenge_id="beta", miner=1)
    admitted(view, b"other", miner=1)
    assert len(unsettled(view)) == 3


def test_a_copy_says_nothing_about_pending_verdicts() -> None:
    view = WORLD.state()
    original = admitted(view)
    result_of(admit(view, slot(2), WORLD.signed(miner=1)))
    assert isinstance(settle(view, original, 9, slot(3)).basis, Replicated)


# --- verdicts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "without", "last"),
    [
        ((1, 1, 1, 1), [0, 1], 2),
        ((1, 1, 1), [0, 1], 2),
        ((1, 1), [0], 1),
        ((1,), [], 0),
        ((100, 100, 100, 1), [0, 1], 3),
        ((334, 333, 333), [1, 2], 0),
        ((400, 300, 200, 100), [0, 2], 3),
    ],
)
def test_a_submission_settles_at_a_quorum_of_weight_and_not_below(
    weights: tuple[int, ...], without: list[int], last: int
) -> None:
    world = World(weights)
    view = world.state()
    event = admit(view, slot(), world.signed())
    assert isinstance(event, Admitted)
    verdict = make_verdict(event.submission_id, 5)
    for signer in without:
        assert state_verdict(view, world.voters, slot(2), signer, verdict) is None
        assert read(view, Result, result_key(event.submission_id)) is None
    assert 3 * sum(weights[signer] for signer in without) <= 2 * sum(weights)
    result = result_of(state_verdict(view, world.voters, slot(3), last, verdict))
    assert result.basis == Replicated(
        verdict_hash=verdict.verdict_hash, outcome_class="scored", score=5
    )
    assert (result.admitted_seq, result.settled_seq, result.epoch) == (1, 3, 0)
    assert read(view, Result, result_key(event.submission_id)) == result
    assert unsettled(view) == []


def test_exactly_two_thirds_are_not_a_quorum() -> None:
    world = World((2, 2, 1, 1))
    view = world.state()
    submission_id = admitted(view)
    verdict = make_verdict(submission_id)
    for signer in (0, 1):
        assert state_verdict(view, world.voters, slot(2), signer, verdict) is None
    assert state_verdict(view, world.voters, slot(2), 2, verdict) is not None


@pytest.mark.parametrize("different", [{"score": 2}, {"text": b"w"}, {"outcome_class": "rejected"}])
def test_hash_class_and_score_must_all_agree(different: dict[str, Any]) -> None:
    view = WORLD.state()
    submission_id = admitted(view)
    same, other = make_verdict(submission_id), make_verdict(submission_id, **different)
    for signer, verdict in enumerate((same, same, other)):
        assert state_verdict(view, WORLD.voters, slot(2), signer, verdict) is None
    result = result_of(state_verdict(view, WORLD.voters, slot(2), 3, same))
    assert result.basis == Replicated(
        verdict_hash=same.verdict_hash, outcome_class="scored", score=1
    )


def test_the_first_verdict_of_a_validator_stands() -> None:
    view = WORLD.state()
    submission_id = admitted(view)
    good, bad = make_verdict(submission_id, 1), make_verdict(submission_id, 2)
    assert state_verdict(view, WORLD.voters, slot(2), 0, bad) is None
    for verdict in (good, bad):
        again = state_verdict(view, WORLD.voters, slot(2), 0, verdict)
        assert again == NoOp("second_verdict", submission_id)
    assert state_verdict(view, WORLD.voters, slot(2), 1, good) is None
    assert state_verdict(view, WORLD.voters, slot(2), 2, good) is None
    result = result_of(state_verdict(view, WORLD.voters, slot(2), 3, good))
    assert isinstance(result.basis, Replicated)
    assert result.basis.score == 1


def test_it_is_disputed_as_soon_as_no_verdict_can_reach_a_quorum() -> None:
    view = WORLD.state()
    submission_id = admitted(view)
    first, second = make_verdict(submission_id, 1), make_verdict(submission_id, 2)
    assert state_verdict(view, WORLD.voters, slot(2), 0, first) is None
    assert state_verdict(view, WORLD.voters, slot(2), 1, second) is None
    result = result_of(
        state_verdict(view, WORLD.voters, slot(3), 2, make_verdict(submission_id, 3))
    )
    assert result.basis == Disputed(reason="split")
    assert unsettled(view) == []
    assert best_scores(view, 0) == {}


def test_a_verdict_after_the_end_or_before_admission_changes_nothing() -> None:
    view = WORLD.state()
    submission_id = admitted(view)
    settle(view, submission_id, 4, slot(2))
    before = dict(view.entries)
    late = state_verdict(view, WORLD.voters, slot(3), 3, make_verdict(submission_id, 9))
    assert late == NoOp("already_settled", submission_id)
    unknown = sha256(b"unknown")
    early = state_verdict(view, WORLD.voters, slot(3), 3, make_verdict(unknown))
    assert early == NoOp("not_admitted", unknown)
    assert view.entries == before


def expected_basis(voters: Voters, choices: dict[int, int]) -> str:
    """Say how it ends, by the rule and not by the code."""
    weight: defaultdict[int, int] = defaultdict(int)
    for signer, choice in choices.items():
        weight[choice] += voters.weights[signer]
    silent = voters.total - sum(weight.values())
    most = max(weight.values(), default=0)
    if 3 * most > 2 * voters.total:
        return "settled"
    return "waiting" if 3 * (most + silent) > 2 * voters.total else "split"


@given(st.data())
def test_the_end_does_not_depend_on_the_order_of_verdicts(data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=7).map(tuple))
    signers = st.integers(0, len(weights) - 1)
    choices = data.draw(st.dictionaries(signers, st.integers(0, 2)))
    orders = [data.draw(st.permutations(sorted(choices))) for _ in range(2)]
    world = World(weights)
    ends = []
    for order in orders:
        view = world.state()
        submission_id = admitted(view)
        for signer in order:
            verdict = make_verdict(submission_id, choices[signer])
            state_verdict(view, world.voters, slot(2), signer, verdict)
        ends.append(read(view, Result, result_key(submission_id)))
    assert ends[0] == ends[1]
    end = "waiting"
    if ends[0] is not None:
        end = "settled" if isinstance(ends[0].basis, Replicated) else "split"
    assert end == expected_basis(world.voters, choices)


# --- when the set changes ------------------------------------------------------------------------


def other_set(*members: int) -> Voters:
    """Return the voters of the next epoch: these validators of the first one, in this order."""
    chosen = tuple(WORLD.genesis.validators.members[index] for index in members)
    return Voters(
        replaced(WORLD.genesis.validators, epoch=1, members=chosen), WORLD.network_id, after=10
    )


def test_verdicts_follow_their_validators_into_the_next_set() -> None:
    view = WORLD.state()
    submission_id = admitted(view)
    verdict = make_verdict(submission_id)
    for signer in (0, 3):
        assert state_verdict(view, WORLD.voters, slot(2), signer, verdict) is None
    moved = other_set(3, 2, 1, 0)
    again = state_verdict(view, moved, slot(3), 3, verdict)
    assert again == NoOp("second_verdict", submission_id)
    result = result_of(state_verdict(view, moved, slot(3), 2, verdict))
    assert isinstance(result.basis, Replicated)


def test_the_verdict_of_who_has_left_does_not_count() -> None:
    view = WORLD.state()
    submission_id = admitted(view)
    verdict = make_verdict(submission_id)
    for signer in (0, 1):
        assert state_verdict(view, WORLD.voters, slot(2), signer, verdict) is None
    smaller = other_set(1, 2, 3)
    assert state_verdict(view, smaller, slot(3), 1, verdict) is None
    result = result_of(state_verdict(view, smaller, slot(3), 2, verdict))
    assert isinstance(result.basis, Replicated)


@pytest.mark.parametrize("score", [1, 2])
@pytest.mark.parametrize("silent", [0, 1, 2])
def test_the_verdict_of_who_has_left_counts_for_nobody_else(silent: int, score: int) -> None:
    """Of three equal ones all must speak: one verdict too many settles, one too few splits."""
    view = WORLD.state()
    submission_id = admitted(view)
    left = make_verdict(submission_id, 1)
    assert state_verdict(view, WORLD.voters, slot(2), 0, left) is None
    smaller = other_set(1, 2, 3)
    verdict = make_verdict(submission_id, score)
    for signer in {0, 1, 2} - {silent}:
        assert state_verdict(view, smaller, slot(3), signer, verdict) is None
    result = result_of(state_verdict(view, smaller, slot(3), silent, verdict))
    assert isinstance(result.basis, Replicated)
    assert result.basis.score == score


def test_who_has_left_does_not_split_a_submission() -> None:
    view = WORLD.state()
    submission_id = admitted(view)
    for signer in (0, 1):
        verdict = make_verdict(submission_id, signer)
        assert state_verdict(view, WORLD.voters, slot(2), signer, verdict) is None
    smaller = other_set(1, 2, 3)
    verdict = make_verdict(submission_id, 1)
    assert state_verdict(view, smaller, slot(3), 1, verdict) is None
    assert isinstance(state_verdict(view, smaller, slot(3), 2, verdict), Ended)
