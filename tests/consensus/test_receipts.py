"""Who votes in which epoch, for whoever verifies a receipt."""

from __future__ import annotations

import pytest

from consensus.receipts import voters_from
from protocol.errors import ProofError
from protocol.identity import verify_consensus
from protocol.records.validators import ValidatorSet
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
