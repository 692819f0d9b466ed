from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.interface import PendingCommit
from chain.submission_state import (
    Evidence,
    Limits,
    MemoryKeeper,
    Stage,
    SubmissionRecord,
    judged,
)
from protocol.codec import decode, encode
from tests.chain.support import OTHER, VECTOR

LIMITS = Limits(landing_blocks=8, read_back_blocks=3)
NEW = SubmissionRecord(epoch=1, mechanism=0, source_epoch=1, since_block=20, vector=VECTOR)


def evidence(head: int = 30, **fields: Any) -> Evidence:
    found = {"commit_reveal": False, "last_update": 10, "pending": (), "stored": ()} | fields
    return Evidence(head=head, **found)


SENDING = NEW.sending(VECTOR, evidence(30))
INCLUDED = SENDING.moved(Stage.INCLUDED, block=31)
COMMITTED = INCLUDED.moved(Stage.COMMITTED)
PENDING = (PendingCommit(31, 1000),)


def test_what_is_about_to_be_sent_is_kept_with_the_chain_as_it_was():
    assert (SENDING.sent, SENDING.sent_block, SENDING.update_before) == (VECTOR, 30, 10)
    assert SENDING.calls == 1


def test_steps_that_there_are_not_are_refused_by_name():
    with pytest.raises(ValueError, match="epoch 1, mechanism 0: waiting to revealed"):
        NEW.moved(Stage.REVEALED)
    with pytest.raises(ValueError, match="after applied comes nothing, it is final"):
        INCLUDED.moved(Stage.APPLIED).moved(Stage.WAITING)


@pytest.mark.parametrize("stage", list(Stage))
def test_no_stage_leads_back_to_sending_but_through_waiting(stage: Stage):
    if stage is not Stage.WAITING:
        with pytest.raises(ValueError):
            SubmissionRecord(
                epoch=1, mechanism=0, source_epoch=1, since_block=0, vector=VECTOR, stage=stage
            ).sending(VECTOR, evidence())
    finals = {"applied", "revealed", "unseen", "reveal_lost", "superseded"}
    assert stage.is_final == (stage in finals)


def test_a_call_has_landed_when_the_last_update_is_newer():
    after = judged(SENDING, evidence(31, last_update=31), LIMITS)
    assert (after.stage, after.block) == (Stage.INCLUDED, 31)


def test_a_call_may_land_for_as_long_as_it_lives():
    assert judged(SENDING, evidence(38), LIMITS) is SENDING
    assert judged(SENDING, evidence(39), LIMITS).stage is Stage.WAITING


def test_plain_weights_are_applied_when_they_are_seen():
    seen = evidence(32, last_update=31, stored=VECTOR)
    assert judged(INCLUDED, seen, LIMITS).stage is Stage.APPLIED
    older = evidence(32, last_update=30, stored=VECTOR)
    assert judged(INCLUDED, older, LIMITS) is INCLUDED


def test_plain_weights_that_are_not_seen_are_unseen_after_some_blocks():
    assert judged(INCLUDED, evidence(33, last_update=31, stored=OTHER), LIMITS) is INCLUDED
    after = judged(INCLUDED, evidence(34, last_update=31, stored=OTHER), LIMITS)
    assert (after.stage, after.seen) == (Stage.UNSEEN, OTHER)
    assert "included in block 31" in after.reason


def test_a_pending_commit_comes_before_equal_weights_of_an_earlier_epoch():
    seen = evidence(32, commit_reveal=True, last_update=31, pending=PENDING, stored=VECTOR)
    after = judged(INCLUDED, seen, LIMITS)
    assert (after.stage, after.block) == (Stage.COMMITTED, 31)


def test_commits_of_other_epochs_are_not_taken_for_this_one():
    others = (PendingCommit(9, 1), PendingCommit(40, 1))
    seen = evidence(32, commit_reveal=True, last_update=31, pending=others)
    assert judged(INCLUDED, seen, LIMITS) is INCLUDED


def test_a_commit_is_revealed_when_it_is_gone_and_its_weights_are_there():
    assert judged(COMMITTED, evidence(50, pending=PENDING, stored=VECTOR), LIMITS) is COMMITTED
    assert judged(COMMITTED, evidence(50, stored=VECTOR), LIMITS).stage is Stage.REVEALED


def test_a_commit_is_lost_only_when_it_stays_away():
    gone = judged(COMMITTED, evidence(50), LIMITS)
    assert (gone.stage, gone.gone_block) == (Stage.COMMITTED, 50)
    assert judged(gone, evidence(52), LIMITS) is gone
    back = judged(gone, evidence(53, pending=PENDING), LIMITS)
    assert back.gone_block == 0
    lost = judged(gone, evidence(53, stored=OTHER), LIMITS)
    assert (lost.stage, lost.seen) == (Stage.REVEAL_LOST, OTHER)
    assert "the commit of block 31 is gone" in lost.reason


def test_what_was_left_out_is_told():
    assert NEW.masked == ()
    assert NEW.sending(((2, 65535),), evidence()).masked == (0,)
    assert SENDING.masked == ()


def test_reasons_are_bounded():
    assert len(NEW.held_back(Stage.REFUSED, "expired", "x" * 9999).reason) == 1000


RECORDS = [NEW, SENDING, INCLUDED, COMMITTED, judged(INCLUDED, evidence(99), LIMITS)]


@pytest.mark.parametrize("record", RECORDS, ids=lambda one: str(one.stage))
def test_records_survive_being_written(record: SubmissionRecord):
    assert decode(SubmissionRecord, encode(record)) == record


@given(
    record=st.sampled_from(RECORDS),
    looks=st.lists(
        st.builds(
            evidence,
            st.integers(20, 100),
            commit_reveal=st.booleans(),
            last_update=st.integers(0, 60),
            pending=st.sampled_from([(), PENDING]),
            stored=st.sampled_from([(), VECTOR, OTHER]),
        ),
        max_size=6,
    ),
)
def test_looking_never_sends_and_never_undoes_an_inclusion(record, looks):
    was_included = False
    for look in looks:
        record = judged(record, look, LIMITS)
        assert record.calls <= 1
        was_included |= record.stage not in (Stage.WAITING, Stage.SENDING)
        assert not was_included or record.stage not in (Stage.WAITING, Stage.SENDING)


async def test_a_memory_keeper_has_one_record_for_each_epoch():
    keeper = MemoryKeeper()
    await keeper.save(NEW)
    await keeper.save(SENDING)
    assert keeper.records(0) == (SENDING,)
    assert keeper.records(1) == ()
    assert keeper.mechanisms() == (0,)
