"""Checkpoints (rule 11): signed once, stable at a quorum, and what a wrong state leads to."""

from __future__ import annotations

import pytest

from consensus.checkpoints import MAX_VOTES_PER_SIGNER
from consensus.core import VOTE_RANGE
from consensus.effects import Broadcast, Diverged, PersistVow, Stable
from consensus.inputs import Edge
from protocol.codec import sha256
from protocol.records.checkpoint import Checkpoint, CheckpointVote
from tests.consensus.builders import Node, make_header, make_set, of_type, replaced


def four_slots(**parameters: int) -> Node:
    """Return a replica with four slots decided and executed; its checkpoint interval is four."""
    node = Node(**parameters)
    node.decide(*"abcd")
    return node


def checkpoint_at(node: Node, seq: int = 4, root: bytes | None = None) -> Checkpoint:
    return Checkpoint(
        epoch=0,
        seq=seq,
        chain_hash=node.core.height_digest,
        state_root=root or sha256(b"state", bytes([seq])),
        next_set=None,
    )


def vote(node: Node, signer: int, **changes) -> CheckpointVote:
    return node.peers.checkpoint_vote(signer, replaced(checkpoint_at(node), **changes))


def test_rule_11_every_k_slots_a_checkpoint_is_signed():
    node = Node()
    assert of_type(node.decide(*"abc"), PersistVow)[-1].phase != "checkpoint"
    effects = node.decide("d")
    vow, sent = effects[-2:]
    assert vow == PersistVow("checkpoint", 0, 0, 4, vote(node, 1))
    assert sent == Broadcast(vote(node, 1))


def test_rule_7_a_checkpoint_is_signed_once():
    node = four_slots()
    assert node.execute(4, root=sha256(b"other")) == []
    assert len([e for e in of_type(node.durable, PersistVow) if e.phase == "checkpoint"]) == 1


def test_rule_11_a_checkpoint_before_the_edge_names_no_next_set():
    node = Node()
    node.decide(*"abc")
    node.execute(3, edge=Edge(9, make_set({"v0": 1}, epoch=1)))
    assert of_type(node.decide("d"), PersistVow)[-1].message == vote(node, 1)
    assert node.core.delivered == {}


@pytest.mark.parametrize(("base", "signs"), [(3, 1), (4, 0), (5, 0)])
def test_rule_12_a_slot_of_an_epoch_gone_by_is_not_signed_again(base: int, signs: int):
    node = Node()
    node.core.epoch_base = (base, sha256(b"edge"))
    node.core.delivered[4] = sha256(b"chain")
    assert len(of_type(node.execute(4), PersistVow)) == signs


def test_rule_11_execution_may_lag_behind_the_decisions():
    """The driver executes after the step; by then the height may be further on."""
    node = Node(window=4)
    for seq, name in enumerate("abcde", 1):
        header = make_header(name, seq, node.core.tip_digest)
        node.approve(name, header)
        node.votes("prepare", header, 2)
        node.votes("commit", header, 0, 2)
        if seq == 3:
            node.execute(3)
    assert node.engine.height == 5
    effects = node.execute(4)
    (signed,) = of_type(effects, PersistVow)
    assert signed.message.checkpoint.chain_hash == header.parent
    assert of_type(node.execute(5), PersistVow) == []


def test_rule_11_a_quorum_of_equal_votes_makes_it_stable():
    node = four_slots()
    assert node.receive(vote(node, 0)) == []
    (stable,) = of_type(node.receive(vote(node, 3)), Stable)
    assert stable.certificate == node.peers.stable(checkpoint_at(node), [0, 1, 3])
    assert node.core.stable_seq == 4
    assert node.core.checkpoint_votes == {}
    assert node.core.own_checkpoints == {}
    (sent,) = [e.message for e in of_type(node.decide(*"efgh"), PersistVow)[-1:]]
    assert (sent.checkpoint.seq, node.core.me) == (8, 1)  # another slot's state is no divergence


def test_rule_11_unequal_votes_do_not_add_up():
    node = four_slots()
    other = sha256(b"another state")
    for signer, root in ((0, other), (3, other)):
        assert node.receive(vote(node, signer, state_root=root)) == []
    assert of_type(node.receive(vote(node, 2)), Stable) == []


def test_rule_11_a_stable_checkpoint_convinces_by_itself():
    node = Node()
    checkpoint = replaced(checkpoint_at(node), chain_hash=sha256(b"ahead"))
    certificate = node.peers.stable(checkpoint, [0, 2, 3])
    assert of_type(node.receive(certificate, peer=3), Stable)
    assert node.refused(certificate, peer=3) == "stale"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"signatures": ()}, "bad_proof"),
        ({"signers": b"\x03"}, "bad_proof"),
        ({"signers": b"\x07\x00"}, "bad_proof"),
        ({"signers": b"\x0b"}, "bad_proof"),
    ],
)
def test_rule_11_a_spoiled_certificate_is_refused(changes: dict, reason: str):
    node = Node()
    certificate = node.peers.stable(checkpoint_at(node), [0, 1, 2])
    assert node.refused(replaced(certificate, **changes), peer=3) == reason
    weak = node.peers.stable(checkpoint_at(node), [0, 1])
    assert node.refused(weak, peer=3) == "bad_proof"
    foreign = replaced(certificate, checkpoint=replaced(checkpoint_at(node), epoch=1))
    assert node.refused(foreign, peer=3) == "wrong_epoch"
    assert node.core.stable is None


def test_what_a_checkpoint_vote_may_not_be():
    node = four_slots()
    good = vote(node, 0)
    assert node.refused(good, peer=2) == "foreign_vote"
    assert node.refused(vote(node, 0, epoch=1)) == "wrong_epoch"
    assert node.refused(vote(node, 0, epoch=1), peer=2) == "wrong_epoch"  # no foreign vote
    assert node.refused(vote(node, 0, seq=0)) == "stale"
    assert node.refused(vote(node, 0, seq=5 + VOTE_RANGE)) == "out_of_window"
    assert node.receive(vote(node, 3, seq=4 + VOTE_RANGE)) == []
    assert node.refused(replaced(good, signature=bytes(64))) == "bad_signature"
    node.receive(good)
    assert node.refused(good) == "duplicate"
    assert node.refused(vote(node, 0, state_root=bytes(32))) == "duplicate"


def test_votes_of_one_signer_are_bounded():
    assert MAX_VOTES_PER_SIGNER == 8
    node = four_slots()
    for seq in range(8, 8 + 4 * MAX_VOTES_PER_SIGNER, 4):
        node.receive(vote(node, 0, seq=seq))
    node.receive(vote(node, 0, seq=100))
    assert sum(0 in votes for votes in node.core.checkpoint_votes.values()) == MAX_VOTES_PER_SIGNER
    assert 1 in node.core.checkpoint_votes[4]  # another signer's vote is not touched


def test_rule_11_a_state_that_differs_from_a_quorums_silences_the_replica():
    node = four_slots()
    other = sha256(b"another state")
    effects = [e for s in (0, 2, 3) for e in node.receive(vote(node, s, state_root=other))]
    own = sha256(b"state", bytes([4]))
    assert effects[-1] == Diverged(4, own, other)
    before = len(of_type(node.durable, PersistVow))
    node.decide(*"efgh")
    assert node.engine.height == 8  # it follows
    assert len(of_type(node.durable, PersistVow)) == before  # and signs nothing


def test_rule_11_a_laggard_compares_its_state_as_well():
    """The checkpoint was stable before this replica had executed its slot."""
    node = Node()
    node.decide(*"abc")
    header = make_header("d", 4, node.core.tip_digest)
    other = sha256(b"another state")
    ahead = replaced(checkpoint_at(node), chain_hash=header.digest, state_root=other)
    node.receive(node.peers.stable(ahead, [0, 2, 3]), peer=0)
    effects = node.decide("d")
    assert effects[-1] == Diverged(4, sha256(b"state", bytes([4])), other)
    assert node.core.me is None


def test_rule_11_a_laggard_with_the_same_state_goes_on():
    node = Node()
    node.decide(*"abc")
    header = make_header("d", 4, node.core.tip_digest)
    ahead = replaced(checkpoint_at(node, 4), chain_hash=header.digest)
    node.receive(node.peers.stable(ahead, [0, 2, 3]), peer=0)
    effects = node.decide("d")
    assert of_type(effects, Diverged) == []
    assert [e.phase for e in of_type(effects, PersistVow)] == ["prepare", "commit"]
    assert node.core.me == 1


def test_rule_8_an_observer_signs_no_checkpoint_but_notices_a_stable_one():
    node = Node(me=None)
    for name in "abcd":
        header = make_header(name, node.core.tip_seq + 1, node.core.tip_digest)
        node.receive(node.peers.proposal(name, header))
        node.votes("commit", header, 0, 1, 2)
        assert of_type(node.execute(header.seq), PersistVow) == []
    effects = [e for signer in (0, 2, 3) for e in node.receive(vote(node, signer))]
    assert len(of_type(effects, Stable)) == 1
