"""Who votes in which epoch, for whoever verifies a receipt."""

from __future__ import annotations

import pytest

from consensus.receipts import verify_receipt, voters_from
from protocol.codec import encode, sha256
from protocol.errors import ProofError
from protocol.identity import verify_consensus
from protocol.records.batch import Batch, Header
from protocol.records.checkpoint import CheckpointCertificate
from protocol.records.result import Disputed, Receipt, Result, result_key
from protocol.records.validators import ValidatorSet
from protocol.state_proof import EMPTY, place_of
from storage.state_nodes import TreeUpdate, prove_key
from tests.support import World, replaced

WORLD = World((1, 1, 1, 1))
MEMBERS = WORLD.genesis.validators.members


def moved(epoch: int) -> ValidatorSet:
    """Return a set in which the first validator weighs more."""
    first = replaced(MEMBERS[0], weight=2)
    return ValidatorSet(epoch=epoch, members=(first, *MEMBERS[1:]))


def test_without_hand_overs_the_genesis_members_vote() -> None:
    voters_of = voters_from(WORLD.genesis)
    for epoch in (0, 7):
        assert voters_of(epoch).validator_set == WORLD.genesis.validators.for_epoch(epoch)


def test_with_hand_overs_each_epoch_has_its_proven_set() -> None:
    handover = WORLD.handover(moved(1))
    voters_of = voters_from(WORLD.genesis, [handover], verify_consensus)
    assert voters_of(0).validator_set == WORLD.genesis.validators
    assert voters_of(1).validator_set == moved(1)
    assert voters_of(5).validator_set == moved(5)


def test_a_set_that_is_not_proven_is_refused() -> None:
    handover = WORLD.handover(moved(1))
    forged = replaced(
        handover, checkpoint=replaced(handover.checkpoint, next_set=WORLD.genesis.validators)
    )
    for found in ([forged], [handover, handover]):
        with pytest.raises(ProofError):
            voters_from(WORLD.genesis, found, verify_consensus)


class Case:
    """A receipt that members of epoch 0 sign: of a result settled in slot 4, certified in 8."""

    def __init__(self, *, seq: int = 8, **result: int) -> None:
        fields = {"epoch": 0, "admitted_seq": 2, "settled_seq": 4, **result}
        self.result = Result(
            submission_id=sha256(b"submission"),
            hotkey=bytes(32),
            uid=7,
            challenge_id="alpha",
            challenge_version=1,
            basis=Disputed(reason="split"),
            **fields,
        )
        key, value = result_key(self.result.submission_id), encode(self.result)
        tree = TreeUpdate(lambda _path: None)
        tree.apply(EMPTY, [(place_of(key), sha256(value))])
        root = sha256(tree.writes[1])
        body = Batch(state_root=root, actions=())
        header = Header(epoch=0, seq=seq, parent=bytes(32), body_root=body.body_root())
        self.receipt = Receipt(
            result=self.result,
            state_proof=prove_key(tree.writes.get, root, key),
            body=body.commitment(),
            certificate=WORLD.certificate(header),
        )

    def verify(self, *handovers: CheckpointCertificate) -> str | None:
        sets = voters_from(WORLD.genesis, handovers, verify_consensus)
        verify_receipt(encode(self.receipt), sets, verify_consensus)
        return sets.unproven(self.receipt.certificate)


def test_a_receipt_of_an_ended_epoch_rests_on_proven_sets_alone() -> None:
    assert Case().verify(WORLD.handover(moved(1))) is None


def test_the_end_of_the_newest_known_epoch_is_assumed_and_said() -> None:
    assumed = Case(seq=5000).verify()
    assert assumed is not None
    assert "epoch 0" in assumed
    assert "slot 5000" in assumed


def test_former_members_certify_nothing_after_their_epoch() -> None:
    """Epoch 0 ended with slot 10; its keys may be anybody's by now."""
    Case(seq=10).verify(WORLD.handover(moved(1)))
    with pytest.raises(ProofError, match="slot 11 is not of epoch 0"):
        Case(seq=11).verify(WORLD.handover(moved(1)))


@pytest.mark.parametrize("lie", [
    {"settled_seq": 8}, {"settled_seq": 9}, {"admitted_seq": 5}, {"epoch": 1},
])  # fmt: skip
def test_a_slot_certifies_only_what_came_before_it(lie: dict[str, int]) -> None:
    with pytest.raises(ProofError, match="cannot"):
        Case(**lie).verify()
    Case(settled_seq=7).verify()


def test_a_set_that_is_only_assumed_is_named() -> None:
    sets = voters_from(WORLD.genesis, [WORLD.handover(moved(1))], verify_consensus)
    header = Header(epoch=4, seq=90, parent=bytes(32), body_root=bytes(32))
    certificate = WORLD.certificate(header)
    assert "unproven from epoch 2" in (sets.unproven(certificate) or "")
