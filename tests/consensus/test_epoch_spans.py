"""Rule 12: what a set signs counts for the slots of its own epoch, wherever it is judged."""

from __future__ import annotations

import pytest

from consensus.certificate import judge_certificate
from consensus.checkpoints import judge_by
from consensus.inputs import Learned
from consensus.messages import DecidedSlot
from consensus.transfer import prove_snapshot
from consensus.validators import Voters
from protocol.errors import ProofError
from tests.consensus.builders import (
    NETWORK,
    Signers,
    make_batch,
    make_header,
    make_set,
    make_voters,
    projection,
    verify,
)
from tests.consensus.test_epochs import LEFT, SAME, at_edge, cross
from tests.consensus.test_transfer import checkpoint_at

EPOCH_1 = Signers(make_voters(1, 1, 1, 1, epoch=1, after=8))


@pytest.mark.parametrize(("seq", "until", "holds"), [
    (8, None, False), (9, None, True), (900, None, True), (12, 12, True), (13, 12, False),
])  # fmt: skip
def test_a_certificate_counts_for_the_slots_of_its_epoch_alone(seq, until, holds):
    voters = EPOCH_1.voters if until is None else EPOCH_1.voters.ending(until)
    header = make_header("x", seq, epoch=1)
    certificate = EPOCH_1.certificate(header)
    stable = EPOCH_1.stable(checkpoint_at(header), [0, 1, 2])
    judges = (
        lambda: judge_certificate(voters, certificate, "commit", verify),
        lambda: judge_by(voters, stable, verify),
        lambda: prove_snapshot(voters, stable, certificate, verify),
    )
    for judge in judges:
        if holds:
            judge()
        else:
            with pytest.raises(ProofError, match=f"slot {seq} is not of epoch 1"):
                judge()


def test_a_later_set_without_its_beginning_is_a_mistake_of_ours():
    with pytest.raises(ValueError, match="edge"):
        Voters(make_set({"v0": 1}, epoch=1), NETWORK)


def after_edge(*names):
    """Return a member of epoch 1, and everything that the members of epoch 0 can sign."""
    node = at_edge(*names)
    former = node.peers
    cross(node)
    return node, former


@pytest.mark.parametrize("known_before", [False, True])
@pytest.mark.parametrize("names", [SAME, LEFT])
def test_former_members_decide_nothing_in_the_present(names, known_before):
    """Their keys may have been sold: with slot 5 theirs, the true quorum decides another one."""
    node, former = after_edge(*names)
    sold = make_header("sold", 5, node.core.tip_digest, epoch=0)
    certificate = former.certificate(sold)
    if known_before:  # judged while their epoch's end was not known: no memo may outlive that
        node.core.old_sets[0] = former.voters
        node.core.check_certificate(certificate, "commit")
        node.core.old_sets[0] = former.voters.ending(4)
    decided = DecidedSlot(batch=make_batch("sold"), certificate=certificate)
    before = projection(node.core)
    assert node.refused(decided, peer=2) == "bad_proof"
    (refused,) = node.step(Learned(decided))
    assert refused.reason == "bad_proof"
    assert node.core.tip_seq == 4
    if not known_before:
        assert projection(node.core) == before


def test_a_view_change_does_not_bring_former_members_word_either():
    node, former = after_edge(*SAME)
    now = Signers(node.core.voters)
    sold = former.certificate(make_header("sold", 5, node.core.tip_digest, epoch=0))
    assert node.refused(now.view_change(2, 1, tip=sold)) == "wrong_epoch"
    prepared = former.certificate(sold.header, "prepare")
    assert node.refused(now.view_change(2, 1, prepared=(prepared,))) == "wrong_epoch"


def test_the_members_of_now_decide_nothing_of_the_past_or_beyond_their_edge():
    node, _ = after_edge(*SAME)
    now = Signers(node.core.voters)
    for seq in (4, 3):
        with pytest.raises(ProofError, match="not of epoch 1"):
            node.core.check_certificate(now.certificate(make_header("x", seq, epoch=1)), "commit")
    edge = at_edge(*SAME)
    beyond = make_header("x", 5, edge.core.tip_digest)
    decided = DecidedSlot(batch=make_batch("x"), certificate=edge.peers.certificate(beyond))
    assert edge.refused(decided, peer=2) == "bad_proof"
