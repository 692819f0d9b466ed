"""State transfer (rule 19): a snapshot is believed only with every set on the way proven."""

from __future__ import annotations

import pytest

from consensus.effects import Decide, EpochBegan, PersistEpoch
from consensus.inputs import SnapshotInstalled
from consensus.messages import DecidedSlot
from consensus.validators import Voters
from protocol.codec import sha256
from protocol.records.checkpoint import Checkpoint, CheckpointCertificate
from tests.consensus.builders import (
    NETWORK,
    Node,
    Signers,
    make_batch,
    make_chain,
    make_header,
    make_set,
    of_type,
    projection,
    replaced,
)

(W,) = make_chain("w")
FAR = make_header("far", 8, sha256(b"before"))


def checkpoint_at(header, next_set=None) -> Checkpoint:
    return Checkpoint(
        epoch=header.epoch,
        seq=header.seq,
        chain_hash=header.digest,
        state_root=bytes(32),
        next_set=next_set,
    )


def later_epoch(node: Node) -> tuple[CheckpointCertificate, Signers, SnapshotInstalled]:
    """The edge of epoch 0, who signs in epoch 1, and a snapshot from there."""
    next_set = make_set({"a": 5, "b": 1, "c": 1, "d": 1}, epoch=1)
    edge = node.peers.stable(checkpoint_at(FAR, next_set), [0, 1, 2])
    signers = Signers(Voters(next_set, NETWORK))
    header = make_header("later", 20, sha256(b"long before"), epoch=1)
    stable = signers.stable(checkpoint_at(header), [0, 1])
    return edge, signers, SnapshotInstalled(stable, signers.certificate(header), (edge,))


def test_rule_19_a_snapshot_stands_for_the_slots_below_it():
    node = Node(me=3)
    stable = node.peers.stable(checkpoint_at(FAR), [0, 1, 2])
    node.receive(node.peers.vote("commit", 2, W))
    node.step(SnapshotInstalled(stable, node.peers.certificate(FAR)))
    core = node.core
    assert (core.height, core.tip_seq, core.executed, core.stable_seq) == (8, 8, 8, 8)
    assert core.slots == {}
    following = make_header("next", 9, FAR.digest)
    slot = DecidedSlot(batch=make_batch("next"), certificate=node.peers.certificate(following))
    assert len(of_type(node.receive(slot, peer=0), Decide)) == 1
    node.step(SnapshotInstalled(stable, node.peers.certificate(FAR)))
    assert core.height == 9  # an old one changes nothing


def test_rule_19_a_snapshot_of_a_later_epoch_comes_with_the_sets_between():
    node = Node(me=3)
    edge, signers, snapshot = later_epoch(node)
    effects = node.step(snapshot)
    assert of_type(effects, PersistEpoch) == [PersistEpoch(edge)]
    assert [began.voters.epoch for began in of_type(effects, EpochBegan)] == [1]
    core = node.core
    assert (core.voters.epoch, core.height, core.tip_seq, core.stable_seq) == (1, 20, 20, 20)
    following = make_header("next", 21, core.height_digest, epoch=1)
    slot = DecidedSlot(batch=make_batch("next"), certificate=signers.certificate(following))
    assert len(of_type(node.receive(slot, peer=0), Decide)) == 1


@pytest.mark.parametrize("lie", ["no handover", "minority", "stolen set", "other slot", "minor"])
def test_rule_19_a_snapshot_that_does_not_prove_itself_changes_nothing(lie):
    node = Node(me=3)
    edge, signers, snapshot = later_epoch(node)
    stable, decided, handovers = snapshot.certificate, snapshot.decided, snapshot.handovers
    if lie == "no handover":
        handovers = ()
    elif lie == "minority":
        handovers = (node.peers.stable(edge.checkpoint, [0, 1]),)
    elif lie == "stolen set":
        mine = replaced(edge.checkpoint, next_set=make_set({"x": 9}, epoch=1))
        handovers = (replaced(edge, checkpoint=mine),)
    elif lie == "other slot":
        decided = signers.certificate(make_header("other", 20, sha256(b"x"), epoch=1))
    else:
        stable = signers.stable(stable.checkpoint, [1, 2, 3])
    before = projection(node.core)
    node.step(SnapshotInstalled(stable, decided, handovers))
    assert projection(node.core) == before
