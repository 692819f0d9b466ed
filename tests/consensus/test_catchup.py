"""Catch-up (rules 9, 10 and 19): answering those behind, believing those ahead only with proof."""

from __future__ import annotations

from itertools import pairwise

import pytest

from consensus.catchup import MAX_DECIDED_PER_STATUS
from consensus.core import BODY_RANGE
from consensus.effects import Decide, PersistFloor, PersistNote, Send, SendBody, SendDecided
from consensus.inputs import Learned, LinkUp, Timer
from consensus.messages import BatchBody, DecidedSlot, FetchBatch, Status, Vote
from protocol.codec import sha256
from protocol.records.checkpoint import Checkpoint
from tests.consensus.builders import (
    Node,
    make_batch,
    make_chain,
    make_header,
    of_type,
    replaced,
)

AT_START = Status(epoch=0, view=0, changing=False, height=0)
W, X, Y = make_chain("w", "x", "y")


def decided(node: Node, name: str, header, **changes) -> DecidedSlot:
    return DecidedSlot(
        batch=make_batch(name), certificate=node.peers.certificate(header, **changes)
    )


def sent(effects) -> list:
    return [effect.message for effect in of_type(effects, Send)]


# --- answering ---------------------------------------------------------------------------------


def test_rule_10_a_new_link_hears_where_we_are():
    node = Node()
    node.decide("w")
    assert node.step(LinkUp(2)) == [Send(2, replaced(AT_START, height=1))]


def test_rule_19_whoever_is_behind_gets_the_decided_slots_in_portions():
    node = Node()
    node.decide(*[f"b{i}" for i in range(3)])
    assert node.receive(AT_START, peer=2)[0] == SendDecided(2, 1, 3)
    node.core.height = MAX_DECIDED_PER_STATUS + 10
    effects = node.receive(replaced(AT_START, height=2), peer=2)
    assert effects[0] == SendDecided(2, 3, MAX_DECIDED_PER_STATUS + 2)


def test_rule_10_open_slots_come_with_proposal_and_own_votes():
    node = Node()
    node.approve("w", W)
    node.votes("prepare", W, 2)
    proposal, approval, commit = sent(node.receive(AT_START, peer=3))
    assert proposal == node.peers.proposal("w", W)
    assert approval == node.peers.vote("prepare", 1, W)
    assert commit == node.peers.vote("commit", 1, W)


def test_rule_8_an_observer_passes_on_proposals_and_no_votes():
    node = Node(me=None)
    node.receive(node.peers.proposal("w", W))
    assert sent(node.receive(AT_START, peer=3)) == [node.peers.proposal("w", W)]


def test_rule_10_whoever_waits_for_the_view_gets_its_new_view():
    node = Node()
    opened = node.peers.new_view(2, [node.peers.view_change(s, 2) for s in range(3)])
    node.receive(opened)
    waiting = replaced(AT_START, view=2, changing=True)
    assert opened in sent(node.receive(waiting, peer=3))
    assert opened in sent(node.receive(AT_START, peer=3))
    assert opened not in sent(node.receive(replaced(AT_START, view=2), peer=3))


def test_rule_10_while_changing_the_own_view_change_is_the_answer():
    node = Node()
    node.receive(node.peers.view_change(2, 2))
    node.receive(node.peers.view_change(3, 2))
    assert sent(node.receive(AT_START, peer=3)) == [node.core.own_view_change]
    assert node.core.own_view_change == node.peers.view_change(1, 2)


def test_rule_10_the_own_checkpoint_vote_is_sent_again_and_later_the_certificate():
    node = Node()
    node.decide(*"abcd")
    own = node.core.checkpoint_votes[4][1]
    assert sent(node.receive(replaced(AT_START, height=4), peer=3)) == [own]
    for signer in (0, 2):
        node.receive(node.peers.checkpoint_vote(signer, own.checkpoint))
    assert sent(node.receive(replaced(AT_START, height=4), peer=3)) == [node.core.stable]


def test_rule_9_a_body_is_sent_to_whoever_names_its_digest():
    node = Node()
    node.receive(node.peers.proposal("w", W))
    body = BatchBody(header=W, batch=make_batch("w"))
    assert node.receive(FetchBatch(seq=1, digest=W.digest), peer=3) == [Send(3, body)]
    assert node.receive(FetchBatch(seq=1, digest=X.digest), peer=3) == []
    assert node.receive(FetchBatch(seq=2, digest=X.digest), peer=3) == []


def test_rule_9_bodies_of_executed_slots_come_from_the_ledger():
    node = Node()
    node.decide("w")
    assert node.receive(FetchBatch(seq=1, digest=W.digest), peer=3) == [SendBody(3, 1, W.digest)]


# --- learning -----------------------------------------------------------------------------------


def test_rule_19_a_decided_slot_proves_itself_whoever_sends_it():
    node = Node(me=3)
    effects = node.receive(decided(node, "w", W), peer=2)
    assert [type(effect) for effect in effects] == [PersistNote, Decide]
    assert (node.engine.height, node.core.tip_digest) == (1, W.digest)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (lambda n: decided(n, "w", W), "stale"),
        (lambda n: decided(n, "y", Y), "gap"),
        (lambda n: decided(n, "x", X, kind="prepare"), "bad_proof"),
        (lambda n: decided(n, "x", X, signers=[0, 1]), "bad_proof"),
        (lambda n: decided(n, "wrong body", X), "body_mismatch"),
        (lambda n: decided(n, "x", make_header("x", 2, W.digest, epoch=1)), "wrong_epoch"),
    ],
)
def test_rule_19_a_decided_slot_without_proof_or_place_is_dropped(message, reason: str):
    node = Node(me=3)
    node.receive(decided(node, "w", W), peer=2)
    assert node.refused(message(node), peer=2) == reason
    assert node.core.tip_seq == 1


def test_rule_9_a_certificate_of_a_higher_view_raises_the_floor():
    node = Node(me=3)
    effects = node.receive(decided(node, "w", W, view=5), peer=2)
    assert PersistFloor(0, 5) in effects
    assert (node.engine.view, node.core.changing) == (5, True)
    assert node.core.own_view_change is None
    opened = node.peers.new_view(5, [node.peers.view_change(s, 5) for s in range(3)])
    node.receive(opened)
    assert not node.core.changing


def test_a_decided_slot_on_another_chain_stops_the_replica():
    node = Node(me=3)
    node.receive(decided(node, "w", W), peer=2)
    with pytest.raises(AssertionError, match="another chain"):
        node.receive(decided(node, "p", make_header("p", 2, sha256(b"fork"))), peer=2)


def test_rule_9_decisions_wait_for_bodies_and_go_out_in_order():
    node = Node(me=3)
    tip = node.peers.certificate(X)
    changes = [node.peers.view_change(0, 1, tip), *(node.peers.view_change(s, 1) for s in (1, 2))]
    node.receive(node.peers.new_view(1, changes))
    assert (node.core.tip_seq, node.engine.height) == (2, 0)
    body = BatchBody(header=X, batch=make_batch("x"))
    assert of_type(node.receive(body, peer=0), Decide) == []  # slot 1 is missing still
    effects = node.receive(decided(node, "w", W), peer=0)
    assert [e.certificate.header.seq for e in of_type(effects, Decide)] == [1, 2]


def test_rule_9_only_bodies_that_somebody_waits_for_are_taken():
    node = Node()
    body = BatchBody(header=W, batch=make_batch("w"))
    assert node.refused(body, peer=3) == "unwanted_body"
    node.core.slot(1).headers[W.digest] = W
    assert node.refused(replaced(body, batch=make_batch("x")), peer=3) == "body_mismatch"
    assert node.receive(body, peer=3) == []
    assert node.core.slots[1].bodies == {W.digest: make_batch("w")}


def test_rule_10_a_missing_body_is_asked_of_another_peer_each_time():
    node = Node(me=3)
    prepared = node.peers.certificate(W, "prepare")
    changes = [node.peers.view_change(s, 1, None, [prepared] if s == 0 else ()) for s in (0, 1, 2)]
    asked = of_type(node.receive(node.peers.new_view(1, changes)), Send)
    for _ in range(3):
        asked += of_type(node.fire(Timer.RESEND), Send)
    assert all(e.message == FetchBatch(seq=1, digest=W.digest) for e in asked)
    peers = [e.peer for e in asked]
    assert set(peers) == {0, 1, 2}
    assert all(one != other for one, other in pairwise(peers))


def test_wants_names_decided_slots_and_checkpoints_that_are_behind():
    node = Node()
    node.decide("w")
    assert not node.engine.wants(decided(node, "w", W))
    assert node.engine.wants(decided(node, "x", X))
    assert node.engine.wants(AT_START)
    checkpoint = Checkpoint(
        epoch=0, seq=0, chain_hash=W.digest, state_root=bytes(32), next_set=None
    )
    assert not node.engine.wants(node.peers.checkpoint_vote(2, checkpoint))
    assert node.engine.wants(node.peers.checkpoint_vote(2, replaced(checkpoint, seq=1)))


def test_rule_7_what_is_sent_again_is_what_was_signed():
    node = Node()
    node.approve("w", W)
    first = [e.message for e in node.durable if hasattr(e, "message")]
    again = [m for m in sent(node.receive(AT_START, peer=3)) if isinstance(m, Vote)]
    assert again == first


def test_rule_10_at_the_end_of_an_answer_the_next_portion_is_asked_for_at_once():
    node = Node(me=3)
    headers = make_chain(*[f"b{i}" for i in range(MAX_DECIDED_PER_STATUS + 1)])
    node.step(LinkUp(2))
    asked = []
    for index, header in enumerate(headers):
        asked += sent(node.receive(decided(node, f"b{index}", header), peer=2))
        if index < MAX_DECIDED_PER_STATUS - 2:
            assert asked == []
    assert len(asked) == 1
    assert isinstance(asked[0], Status)


def test_a_laggard_keeps_the_next_bodies_and_fetches_the_others_in_their_turn():
    """Whoever lacks one slot must not hold everything that is decided meanwhile."""
    node = Node()
    headers = make_chain(*(f"b{seq}" for seq in range(1, 301)))
    slots = {
        header.seq: DecidedSlot(
            batch=make_batch(f"b{header.seq}"), certificate=node.peers.certificate(header)
        )
        for header in headers
    }
    for seq in range(2, 301):
        node.core.adopt_tip(slots[seq - 1].certificate)  # as of a NEW-VIEW
        node.step(Learned(slots[seq]))
    core = node.core
    assert (core.height, core.tip_seq) == (0, 300)
    held = [seq for seq, slot in core.slots.items() if slot.bodies]
    assert held == list(range(2, BODY_RANGE + 1))
    far = BatchBody(header=headers[249], batch=make_batch("b250"))
    assert node.refused(far, peer=2) == "unwanted_body"
    asked = 0
    while core.height < 300:
        assert asked <= 4
        asked += 1
        for seq in range(core.height + 1, min(core.height + 65, 301)):
            node.step(Learned(slots[seq]))
        for seq in range(core.executed + 1, core.height + 1):
            node.execute(seq, bytes(32))
    assert core.slots == {}
