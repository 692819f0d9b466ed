"""State transfer (rule 19): a snapshot is believed only with every set on the way proven."""

from __future__ import annotations

import pytest

from consensus.effects import Decide, PersistEpoch, PersistVow, Refused
from consensus.engine import Engine
from consensus.inputs import Executed, Learned
from consensus.messages import DecidedSlot
from consensus.transfer import next_voters, prove_sets, prove_snapshot
from consensus.validators import Voters
from protocol.codec import sha256
from protocol.errors import ProofError
from protocol.records.checkpoint import Checkpoint
from protocol.records.genesis import Parameters
from tests.consensus.builders import (
    GENESIS,
    NETWORK,
    Signers,
    make_batch,
    make_header,
    make_set,
    make_voters,
    of_type,
    replaced,
    verify,
)

FIRST = Signers(make_voters(1, 1, 1, 1))
NEXT_SET = make_set({"a": 5, "b": 1, "c": 1, "d": 1}, epoch=1)
SECOND = Signers(Voters(NEXT_SET, NETWORK, after=8))
FAR = make_header("far", 8, sha256(b"before"))
LATER = make_header("later", 20, sha256(b"long before"), epoch=1)


def checkpoint_at(header, next_set=None) -> Checkpoint:
    return Checkpoint(
        epoch=header.epoch,
        seq=header.seq,
        chain_hash=header.digest,
        state_root=bytes(32),
        next_set=next_set,
    )


EDGE = FIRST.stable(checkpoint_at(FAR, NEXT_SET), [0, 1, 2])
STABLE = SECOND.stable(checkpoint_at(LATER), [0, 1])


def test_rule_19_each_set_is_proven_by_the_one_before_it():
    first, second = prove_sets(FIRST.voters, [EDGE], verify)
    assert (first.after, first.until, second.after, second.until) == (0, 8, 8, None)
    assert second.domain == SECOND.voters.domain
    assert prove_sets(FIRST.voters, [], verify) == [FIRST.voters]
    prove_snapshot(second, STABLE, SECOND.certificate(LATER), verify)


@pytest.mark.parametrize("lie", ["minority", "stolen set", "gap", "no set", "wrong next"])
def test_rule_19_a_set_that_is_not_proven_is_not_believed(lie):
    handover = EDGE
    if lie == "minority":
        handover = FIRST.stable(EDGE.checkpoint, [0, 1])
    elif lie == "stolen set":
        mine = replaced(EDGE.checkpoint, next_set=make_set({"x": 9}, epoch=1))
        handover = replaced(EDGE, checkpoint=mine)
    elif lie == "gap":
        handover = SECOND.stable(checkpoint_at(LATER, make_set({"x": 9}, epoch=2)), [0, 1])
    elif lie == "no set":
        handover = FIRST.stable(checkpoint_at(FAR), [0, 1, 2])
    else:
        skipped = make_set({"x": 9}, epoch=2)
        handover = FIRST.stable(checkpoint_at(FAR, skipped), [0, 1, 2])
    with pytest.raises(ProofError):
        prove_sets(FIRST.voters, [handover], verify)


@pytest.mark.parametrize("lie", ["other slot", "minority", "undecided", "other set"])
def test_rule_19_a_snapshot_that_does_not_prove_itself_is_not_believed(lie):
    voters, stable, decided = SECOND.voters, STABLE, SECOND.certificate(LATER)
    if lie == "other slot":
        decided = SECOND.certificate(make_header("other", 20, sha256(b"x"), epoch=1))
    elif lie == "minority":
        stable = SECOND.stable(STABLE.checkpoint, [1, 2, 3])
    elif lie == "undecided":
        decided = SECOND.certificate(LATER, "prepare")
    else:
        voters = FIRST.voters
    with pytest.raises(ProofError):
        prove_snapshot(voters, stable, decided, verify)


def test_a_trusted_checkpoint_names_its_set_without_a_proof():
    unproven = replaced(EDGE, signatures=(bytes(64),), signers=b"\x01")
    assert next_voters(unproven, NETWORK).domain == SECOND.voters.domain
    with pytest.raises(ProofError):
        next_voters(STABLE, NETWORK)


def test_rule_8_a_replica_made_from_a_snapshot_follows_the_log_and_signs_nothing():
    observer = Engine(
        FIRST.voters,
        None,
        sign=lambda _: pytest.fail("an observer signed"),
        verify=verify,
        parameters=Parameters(),
        genesis_digest=GENESIS,
        executed=SECOND.certificate(LATER),
        stable=STABLE,
        persisted=[PersistEpoch(EDGE)],
    )
    core = observer.core
    assert (core.voters.epoch, core.height, core.tip_seq, core.stable_seq) == (1, 20, 20, 20)
    observer.step(Executed(20, bytes(32)))
    following = make_header("next", 21, LATER.digest, epoch=1)
    slot = DecidedSlot(batch=make_batch("next"), certificate=SECOND.certificate(following))
    effects = observer.step(Learned(slot))
    assert len(of_type(effects, Decide)) == 1
    assert of_type(effects, PersistVow) == []
    assert len(of_type(observer.step(Learned(slot)), Refused)) == 1
    assert core.height == 21
