"""How many submissions of a hotkey may be pending, and that the count is always right."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import decode
from protocol.records.result import Copy, Disputed
from protocol.view import DictView
from registry import keys
from registry.pending import count_pending, room, unsettled
from registry.submissions import Ended, NoOp, admit, expire, state_verdict, why_inadmissible
from tests.makers import make_verdict
from tests.registry.support import (
    MAX_PENDING,
    WORLD,
    D,
    admitted,
    begin,
    result_of,
    settle,
    slot,
)

MINER = WORLD.miners[0].public_key
REFUSED = "too_many_pending"


def counts(view: DictView) -> dict[bytes, int]:
    """Return the rows of the state, by hotkey."""
    found = view.items(keys.PENDING_OF)
    return {key[len(keys.PENDING_OF) :]: decode(keys.PendingOf, row).count for key, row in found}


def check(view: DictView) -> None:
    """The rows say what is there; every pending submission has its deadline, and nothing else."""
    waiting = unsettled(view)
    assert counts(view) == Counter(pending.submission.hotkey for _, pending in waiting)
    assert max(counts(view).values(), default=0) <= MAX_PENDING
    deadlines = {key for key, _ in view.items(keys.DEADLINE)}
    assert deadlines == {
        keys.DEADLINE + keys.u64(pending.admitted_seq + D) + submission_id
        for submission_id, pending in waiting
    }


def full(view: DictView) -> list[bytes]:
    return [admitted(view, b"%d" % number) for number in range(MAX_PENDING)]


def test_an_admission_beyond_the_bound_changes_nothing() -> None:
    view = WORLD.state()
    assert room(view, MINER, MAX_PENDING) == MAX_PENDING
    full(view)
    assert (count_pending(view, MINER), room(view, MINER, MAX_PENDING)) == (MAX_PENDING, 0)
    assert room(view, MINER, MAX_PENDING - 1) == 0
    before = dict(view.entries)
    other = [WORLD.signed(b"new"), WORLD.signed(b"new", challenge_id="beta"), WORLD.signed(b"0")]
    for signed in other[:2]:
        assert admit(view, slot(2), signed) == NoOp(REFUSED, signed.submission_id)
    assert admit(view, slot(2), other[2]) == NoOp("duplicate", other[2].submission_id)
    assert view.entries == before
    assert why_inadmissible(view, other[0].submission) is None, "it is only too early"


def test_nobody_takes_the_room_of_another_hotkey() -> None:
    view = WORLD.state()
    full(view)
    for number in range(MAX_PENDING):
        admitted(view, b"other %d" % number, miner=1)
    check(view)


@pytest.mark.parametrize("how", ["settled", "split", "deadline"])
def test_each_end_makes_room_for_one(how: str) -> None:
    view = WORLD.state()
    first = full(view)[0]
    if how == "settled":
        settle(view, first, 5, slot(2))
    elif how == "split":
        for signer in range(3):
            state_verdict(view, WORLD.voters, slot(2), signer, make_verdict(first, signer))
    else:
        admitted(view, b"later", at=slot(2), miner=1)
        assert len(expire(view, slot(1 + D))) == MAX_PENDING
        assert counts(view) == {WORLD.miners[1].public_key: 1}
        return
    assert room(view, MINER, MAX_PENDING) == 1
    admitted(view, b"new", at=slot(3))
    newer = WORLD.signed(b"newer")
    assert admit(view, slot(3), newer) == NoOp(REFUSED, newer.submission_id)
    check(view)


def test_a_copy_takes_no_room_and_needs_some() -> None:
    view = WORLD.state()
    original = admitted(view, miner=1)
    for epoch in range(1, 2 * MAX_PENDING):
        again = admit(view, slot(2), WORLD.signed(expiry_epoch=epoch))
        assert result_of(again).basis == Copy(original=original)
    assert counts(view) == {WORLD.miners[1].public_key: 1}
    full(view)
    late = WORLD.signed(expiry_epoch=99)
    assert admit(view, slot(2), late) == NoOp(REFUSED, late.submission_id)


def test_who_is_registered_no_more_still_has_what_is_pending() -> None:
    view = WORLD.state()
    ids = full(view)
    neuron = view.get(keys.NEURON + MINER)
    assert neuron is not None
    view.delete(keys.NEURON + MINER)
    settle(view, ids[0], 1, slot(2))
    check(view)
    view.put(keys.NEURON + MINER, neuron)
    admitted(view, b"new", at=slot(3))
    assert room(view, MINER, MAX_PENDING) == 0


ADMIT = st.tuples(st.just("admit"), st.integers(0, 19), st.integers(0, 1))
STEP = st.one_of(
    ADMIT,
    ADMIT,
    ADMIT,
    st.tuples(st.just("verdict"), st.integers(0, 30), st.integers(0, 11)),
    st.tuples(st.just("wait"), st.integers(1, 2), st.just(0)),
    st.tuples(st.just("epoch"), st.just(0), st.just(0)),
)


@given(st.lists(STEP, min_size=20, max_size=60))
def test_the_count_is_the_number_of_what_is_pending(
    steps: list[tuple[str, int, int]],
) -> None:
    view, seq, epoch = WORLD.state(), 1, 0
    for what, first, second in steps:
        now = slot(seq, epoch)
        waiting = unsettled(view)
        if what == "admit":  # twenty bodies, two miners: some are duplicates or copies
            signed = WORLD.signed(b"%d" % first, miner=second, expiry_epoch=epoch + 1)
            hotkey = signed.submission.hotkey
            is_full = count_pending(view, hotkey) == MAX_PENDING
            before = dict(view.entries)
            event = admit(view, now, signed)
            assert not is_full or isinstance(event, NoOp)
            assert (view.entries == before) == isinstance(event, NoOp)
        elif what == "verdict" and waiting:
            submission_id = waiting[first % len(waiting)][0]
            verdict = make_verdict(submission_id, second % 3)
            state_verdict(view, WORLD.voters, now, second // 3, verdict)
        elif what == "wait":
            seq += first
            for event in expire(view, slot(seq, epoch)):
                assert isinstance(event, Ended)
                assert event.result.basis == Disputed(reason="timeout")
        elif what == "epoch":
            epoch += 1
            begin(view, epoch)
        check(view)
    expire(view, slot(seq + D, epoch))
    assert counts(view) == {}
