"""Epochs (rule 12): the edge, the forced checkpoint, the new set."""

from __future__ import annotations

import pytest

from consensus.effects import (
    Broadcast,
    EpochBegan,
    PersistEpoch,
    PersistVow,
    Send,
    SendCheckpoint,
    Stable,
)
from consensus.inputs import Edge
from consensus.messages import Status
from consensus.validators import Voters
from tests.consensus.builders import (
    NETWORK,
    Node,
    Signers,
    key_of,
    make_header,
    make_set,
    of_type,
    replaced,
    sign,
)

STATUS = Status(epoch=0, view=0, changing=False, height=0)


def next_set(*names: str, epoch: int = 1):
    """Return a later set; v0..v3 are the members of the first one."""
    return make_set(dict.fromkeys(names, 1), epoch)


SAME = ("v0", "v1", "v2", "v3")
LEFT = ("v0", "v2", "v3", "new")


def at_edge(*names: str, me: int | None = 1, **parameters: int) -> Node:
    """Return a replica that has executed the edge, slot 4 (window 2), and lacks votes for it."""
    node = Node(me=me, window=2, checkpoint_interval=100, **parameters)
    node.decide("a")
    edge = Edge(4, next_set(*names))
    for seq, name in enumerate("bcd", 2):
        header = make_header(name, seq, node.core.tip_digest)
        node.approve(name, header)
        node.votes("prepare", header, 2, 3)
        node.votes("commit", header, 0, 2, 3)
        node.execute(seq, edge=edge)
    return node


def cross(node: Node) -> list:
    """Let the edge's checkpoint become stable."""
    own = node.core.own_checkpoints[4]
    return [e for s in (0, 2, 3) for e in node.receive(node.peers.checkpoint_vote(s, own))]


def test_rule_12_a_checkpoint_is_forced_at_the_edge_and_names_the_new_set():
    node = at_edge(*LEFT)
    (vow,) = [e for e in of_type(node.durable, PersistVow) if e.phase == "checkpoint"]
    assert vow.message.checkpoint.seq == 4
    assert vow.message.checkpoint.next_set == next_set(*LEFT)


def test_rule_12_nothing_is_proposed_or_approved_beyond_the_edge():
    primary = at_edge(*SAME)
    assert primary.core.last_open == 4
    beyond = make_header("x", 5, primary.core.tip_digest)
    assert (
        of_type(primary.receive(primary.peers.proposal("x", beyond)), PersistVow, Broadcast) == []
    )


def test_rule_12_before_the_stable_checkpoint_the_old_epoch_goes_on():
    node = at_edge(*SAME)
    own = node.core.own_checkpoints[4]
    for signer in (0, 2):
        assert node.core.voters.epoch == 0
        effects = node.receive(node.peers.checkpoint_vote(signer, own))
    assert [type(e) for e in effects] == [Stable, PersistEpoch, EpochBegan, Broadcast]


def test_rule_12_the_new_epoch_starts_in_view_0_above_the_edge():
    node = at_edge(*SAME)
    digest = node.core.height_digest
    effects = cross(node)
    core = node.core
    assert (core.voters.epoch, core.view, core.changing) == (1, 0, False)
    assert (core.tip_seq, core.tip_digest, core.base_seq, core.me) == (4, digest, 4, 1)
    assert of_type(effects, EpochBegan)[0].me == 1
    node.peers = Signers(core.voters)
    header = make_header("x", 5, digest, epoch=1)
    node.approve("x", header)
    assert of_type(node.durable, PersistVow)[-1].message == node.peers.vote("prepare", 1, header)


def test_rule_12_a_member_keeps_its_key_under_another_index():
    node = at_edge("v3", "v1", "v2", "v0", me=3)
    cross(node)
    assert node.core.me == 0


def test_rule_12_a_member_that_left_follows_without_a_vote():
    node = at_edge(*LEFT)
    assert of_type(cross(node), EpochBegan)[0].me is None
    node.peers = Signers(node.core.voters)
    before = len(of_type(node.durable, PersistVow))
    header = make_header("x", 5, node.core.tip_digest, epoch=1)
    node.approve("x", header)
    node.votes("commit", header, 0, 1, 2)
    assert node.engine.height == 5
    assert len(of_type(node.durable, PersistVow)) == before


def test_rule_12_a_newcomer_signs_from_its_first_epoch_on():
    node = Node(me=None, window=2, checkpoint_interval=100)
    newcomer = node.build(key=key_of("new"))
    newcomer.core._sign = lambda payload: sign(key_of("new"), payload)
    node.engine = newcomer
    for seq, name in enumerate("abcd", 1):
        header = make_header(name, seq, node.core.tip_digest)
        node.receive(node.peers.proposal(name, header))
        node.votes("commit", header, 0, 1, 2)
        node.execute(seq, edge=Edge(4, next_set(*LEFT)))
    cross(node)
    assert node.core.me == 3


def test_rule_11_a_diverged_member_gets_no_vote_back_with_the_epoch():
    """Its state is as wrong as before: only a resync may bring its voice back."""
    node = at_edge(*SAME)
    other = replaced(node.core.own_checkpoints[4], state_root=bytes(32))
    effects = node.receive(node.peers.stable(other, [0, 2, 3]), peer=0)
    (began,) = of_type(effects, EpochBegan)
    assert began.voters.epoch == 1
    assert began.me is None


def test_rule_12_certificates_are_judged_by_the_set_of_their_own_epoch():
    node = at_edge(*LEFT)
    old = node.peers
    cross(node)
    new = Signers(node.core.voters)
    slot = make_header("x", 5, node.core.tip_digest, epoch=1)
    node.core.check_certificate(old.certificate(make_header("d", 4)), "commit")
    node.core.check_certificate(new.certificate(slot), "commit")
    crossed = replaced(old.certificate(make_header("d", 4)), header=slot)
    with pytest.raises(Exception, match="signature"):
        node.core.check_certificate(crossed, "commit")


def test_rule_3_votes_of_the_old_epoch_are_refused_in_the_new_one():
    node = at_edge(*SAME)
    old = node.peers
    cross(node)
    header = make_header("x", 5, node.core.tip_digest, epoch=1)
    assert node.refused(old.vote("prepare", 0, header)) == "wrong_epoch"
    relabelled = old.vote("prepare", 0, header, epoch=1)
    assert node.refused(relabelled) == "bad_signature"


def test_rule_12_a_laggard_crosses_after_it_has_executed_the_edge():
    """The stable checkpoint may come first; the slots up to the edge are still judged by set 0."""
    ahead = at_edge(*SAME)
    certificate = ahead.peers.stable(ahead.core.own_checkpoints[4], [0, 2, 3])
    node = Node(me=3, window=2, checkpoint_interval=100)
    node.decide("a")
    node.receive(certificate, peer=0)
    assert node.core.voters.epoch == 0
    edge = Edge(4, next_set(*SAME))
    for seq, name in enumerate("bcd", 2):
        header = make_header(name, seq, node.core.tip_digest)
        node.receive(node.peers.proposal(name, header))
        node.votes("commit", header, 0, 1, 2)
        effects = node.execute(seq, edge=edge)
    assert [type(e) for e in effects] == [PersistEpoch, EpochBegan, Broadcast]
    assert node.core.voters.epoch == 1


def test_rule_12_an_edge_of_an_epoch_gone_by_is_no_edge():
    node = at_edge(*SAME)
    cross(node)
    node.execute(4, edge=Edge(4, next_set(*SAME)))
    assert node.core.edge is None


def test_rule_12_members_of_the_old_epoch_are_sent_the_handover():
    node = at_edge(*SAME)
    cross(node)
    effects = node.receive(replaced(STATUS, height=4), peer=2)
    assert [e.message for e in of_type(effects, Send)] == [node.core.stable]
    node.core.handovers.clear()
    assert node.receive(replaced(STATUS, height=4), peer=2) == [SendCheckpoint(2, 0)]


def test_rule_12_who_is_behind_says_so_to_members_of_a_later_epoch():
    node = Node()
    effects = node.receive(replaced(STATUS, epoch=1, height=9), peer=2)
    assert effects == [Send(2, replaced(STATUS, height=0))]


def test_rule_13_the_cap_applies_to_the_new_set():
    weights = {"v0": 100, "v1": 1, "v2": 1, "v3": 1, "new": 1}
    assert Voters(make_set(weights, 1), NETWORK, after=9).weights == (48, 1, 1, 1, 1)
