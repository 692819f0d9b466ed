"""Recovery (rules 7, 8 and 10): a restarted replica knows what it signed and says nothing else."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.effects import Broadcast, Decide, PersistFloor, PersistNote, PersistVow, Send
from consensus.inputs import Edge, LinkUp, Timer, TimerFired, WorkPending
from consensus.messages import FetchBatch, NewView, Status, Vote
from protocol.records.batch import Certificate
from tests.consensus.builders import (
    GENESIS,
    Node,
    make_chain,
    make_header,
    make_set,
    of_type,
    patient,
    projection,
)

W, X, Y = make_chain("w", "x", "y")
AT_START = Status(epoch=0, view=0, changing=False, height=0)


def restart(node: Node, **recovered) -> None:
    """Build the replica anew from what it has persisted, and what its ledger holds."""
    chain = {e.certificate.header.seq: e.certificate for e in getattr(node, "decided", [])}
    given_up = node.core.height
    recovered.setdefault("executed", chain.get(given_up))
    node.engine = node.build(persisted=list(node.durable), **recovered)
    node.timers.clear()


def compact(node: Node) -> None:
    """Drop what a compacted journal drops; the signing guard keeps every vow."""
    vows = of_type(node.durable, PersistVow)
    node.durable = [*node.engine.live_records(), *vows]


def state_of(node: Node) -> list:
    """Return what a restart must bring back, bodies of slots without a proposal left aside."""
    core = node.core
    slots = [
        (seq, slot.accepted, slot.committed, slot.rejected, projection(slot.prepared))
        for seq, slot in sorted(core.slots.items())
        if slot.accepted or slot.rejected or slot.prepared
    ]
    return [core.view, core.changing, core.base_seq, core.tip_seq, core.height, core.me, slots]


def votes_in(effects) -> list[Vote]:
    messages = [effect.message for effect in of_type(effects, Broadcast, Send)]
    return [message for message in messages if isinstance(message, Vote)]


def test_rule_7_an_approval_comes_back_and_is_not_signed_again():
    node = Node()
    node.approve("w", W)
    restart(node)
    assert node.core.slots[1].accepted == W.digest
    assert votes_in(node.receive(node.peers.proposal("w", W))) == []
    assert votes_in(node.receive(AT_START, peer=2)) == [node.peers.vote("prepare", 1, W)]


def test_rule_7_after_a_restart_no_other_batch_is_approved():
    """The mutant "amnesia after restart"."""
    node = Node()
    node.approve("w", W)
    restart(node)
    other = make_header("other")
    assert votes_in(node.receive(node.peers.proposal("other", other))) == []
    assert node.core.slots[1].accepted == W.digest


def test_rule_7_a_reject_comes_back():
    node = Node()
    stray = make_header("w", parent=bytes(32))
    node.receive(node.peers.proposal("w", stray))
    assert node.core.slots[1].rejected
    restart(node)
    assert node.core.slots[1].rejected
    assert votes_in(node.receive(node.peers.proposal("w", stray))) == []
    assert [v.kind for v in votes_in(node.receive(AT_START, peer=2))] == ["reject"]


def test_rule_7_a_commit_comes_back_with_its_certificate():
    node = Node()
    node.approve("w", W)
    node.votes("prepare", W, 2)
    restart(node)
    slot = node.core.slots[1]
    assert slot.committed == W.digest
    assert slot.prepared == node.peers.certificate(W, "prepare", signers=[0, 1, 2])
    assert len(of_type(node.votes("commit", W, 0, 2), Decide)) == 1


def test_rule_7_a_proposal_of_a_primary_comes_back():
    node = Node(me=0)
    node.propose("w")
    restart(node)
    assert node.engine.open_slot == 2
    assert node.engine.in_flight == [node.peers.proposal("w", W).batch]
    assert node.receive(AT_START, peer=2)[0] == Send(2, node.peers.proposal("w", W))


def test_rule_10_a_replica_that_was_changing_is_still_changing():
    node = Node()
    node.approve("w", W)
    node.step(WorkPending(True))
    node.fire(Timer.PROGRESS)
    own = node.core.own_view_change
    restart(node)
    assert (node.engine.view, node.core.changing) == (1, True)
    assert node.core.own_view_change == own
    assert node.refused(node.peers.vote("prepare", 2, W)) == "old_view"
    node.step(WorkPending(True))
    assert Broadcast(own) in node.fire(Timer.RESEND)


def test_rule_10_without_a_new_view_nothing_is_signed_in_the_floor_view():
    """The floor alone is known: raised by a certificate, say."""
    node = Node()
    node.durable.append(PersistFloor(0, 4))
    restart(node)
    assert (node.engine.view, node.core.changing) == (4, True)
    assert node.core.own_view_change is None
    assert node.refused(node.peers.proposal("w", W, 4)) == "other_view"


def opened(node: Node, *, slots=(W, X), view: int = 1) -> NewView:
    prepared = [node.peers.certificate(header, "prepare") for header in slots]
    changes = [
        node.peers.view_change(signer, view, None, prepared if signer == 0 else ())
        for signer in (0, 2, 3)
    ]
    return node.peers.new_view(view, changes)


def test_rule_10_an_accepted_new_view_is_entered_again():
    node = Node(me=3)
    node.receive(opened(node))
    restart(node)
    assert (node.engine.view, node.core.changing) == (1, False)
    assert [node.core.slots[seq].accepted for seq in (1, 2)] == [W.digest, X.digest]
    again = votes_in(node.receive(Status(epoch=0, view=1, changing=False, height=0), peer=2))
    assert again == [node.peers.vote("prepare", 3, header, 1) for header in (W, X)]


def test_rule_7_a_signed_new_view_is_never_signed_differently():
    """The crash came right behind the vow: the vow alone must bring the NEW-VIEW back."""
    node = Node(me=1)
    node.step(WorkPending(True))
    node.fire(Timer.PROGRESS)
    for signer in (0, 2):
        node.receive(node.peers.view_change(signer, 1))
    first = node.core.new_view
    vow = next(e for e in node.durable if isinstance(e, PersistVow) and e.phase == "new-view")
    del node.durable[node.durable.index(vow) + 1 :]
    restart(node)
    effects = node.receive(node.peers.view_change(3, 1))
    assert [m for m in (e.message for e in of_type(effects, Broadcast)) if m != first] == []
    assert node.core.new_view == first


def test_rule_7_a_checkpoint_vote_comes_back():
    node = Node()
    effects = node.decide(*"abcd")
    node.decided = of_type(effects, Decide)
    own = node.core.checkpoint_votes[4][1]
    restart(node)
    assert node.engine.height == 4
    assert node.core.checkpoint_votes[4] == {1: own}
    assert of_type(node.execute(4), PersistVow) == []


def test_a_checkpoint_whose_execution_the_crash_interrupted_is_signed_then():
    """Decided and stored, but the answer to `Decide` never reached the engine."""
    node = Node()
    node.decided = of_type(node.decide(*"abc"), Decide)
    header = make_header("d", 4, node.core.tip_digest)
    node.approve("d", header)
    node.votes("prepare", header, 2)
    node.decided += of_type(node.votes("commit", header, 0, 2), Decide)
    restart(node)
    (vow,) = of_type(node.execute(4), PersistVow)
    assert vow.message.checkpoint.chain_hash == header.digest


def test_a_compacted_journal_brings_the_same_state_back():
    node = Node(me=3)
    node.decided = of_type(node.decide("w"), Decide)
    tip = node.core.tip_certificate
    prepared = [node.peers.certificate(X, "prepare")]
    changes = [node.peers.view_change(s, 1, tip, prepared if s else ()) for s in (0, 1, 2)]
    node.receive(node.peers.new_view(1, changes))
    node.approve("y", Y, 1)
    node.votes("prepare", X, 1, 2, view=1)
    before = state_of(node)
    assert [entry[0] for entry in before[-1]] == [2, 3]
    for _ in range(2):
        compact(node)
        restart(node)
        assert state_of(node) == before


def test_rule_9_a_tip_whose_body_is_missing_comes_back():
    node = Node(me=3)
    tip = node.peers.certificate(W)
    changes = [node.peers.view_change(s, 1, tip) for s in (0, 1, 2)]
    node.receive(node.peers.new_view(1, changes))
    restart(node)
    assert (node.core.tip_seq, node.engine.height) == (1, 0)
    node.step(WorkPending(False))
    asked = [e.message for e in of_type(node.fire(Timer.RESEND), Send)]
    assert asked == [FetchBatch(seq=1, digest=W.digest)]


def test_rule_4_a_decision_whose_body_is_missing_comes_back_from_its_certificate():
    """No NEW-VIEW names it as base: the certificate was gathered here."""
    node = Node(me=3)
    node.receive(opened(node, slots=(W,)))
    node.votes("commit", W, 0, 1, 2, view=1)
    assert (node.core.tip_seq, node.engine.height) == (1, 0)
    tip = node.core.tip_certificate
    for _ in range(2):
        restart(node)
        assert node.core.tip_certificate == tip
        assert node.core.slots[1].decided == tip
        compact(node)
    again = make_header("other", 1)
    assert node.refused(node.peers.vote("commit", 2, again, 1)) == "stale"


def test_rule_12_the_epoch_comes_back_from_its_checkpoint():
    node = Node(window=2, checkpoint_interval=100)
    following = make_set(dict.fromkeys(("v3", "v1", "v2"), 1), 1)
    node.decided = of_type(node.decide("a"), Decide)
    for seq, name in enumerate("bcd", 2):
        header = make_header(name, seq, node.core.tip_digest)
        node.approve(name, header)
        node.votes("prepare", header, 2, 3)
        node.decided += of_type(node.votes("commit", header, 0, 2, 3), Decide)
        node.execute(seq, edge=Edge(4, following))
    own = node.core.own_checkpoints[4]
    for signer in (0, 2, 3):
        node.receive(node.peers.checkpoint_vote(signer, own))
    before = node.core
    restart(node, stable=before.stable, edge=Edge(4, following))
    core = node.core
    assert (core.voters.epoch, core.view, core.tip_seq, core.me) == (1, 0, 4, 1)
    assert core.epoch_base == before.epoch_base
    assert core.edge is None
    assert core.handovers == before.handovers


def test_rule_8_nothing_persisted_is_nothing_remembered():
    node = Node()
    fresh = projection(node.core)
    node.approve("w", W)
    node.durable.clear()
    restart(node)
    assert projection(node.core) == fresh
    assert node.core.tip_digest == GENESIS


def events(node: Node) -> list:
    """Return what may happen to replica 3, honest and not, in three views."""
    peers, other = node.peers, make_header("other")
    found = [
        lambda: node.approve("w", W),
        lambda: node.approve("x", X),
        lambda: node.approve("other", other),
        lambda: node.step(WorkPending(True)),
        lambda: node.step(TimerFired(Timer.PROGRESS)),
        lambda: node.step(LinkUp(1)),
        lambda: node.receive(opened(node, slots=(W, X), view=1)),
        lambda: node.receive(opened(node, slots=(), view=2)),
        lambda: node.approve("other", other, 2),
        lambda: node.approve("w", W, 1),
    ]
    for view in (0, 1, 2):
        for header in (W, X, other):
            for kind in ("prepare", "commit"):
                for signer in (0, 1, 2):
                    vote = peers.vote(kind, signer, header, view)
                    found.append(lambda vote=vote: node.receive(vote))
    return found


@settings(patient, max_examples=150)
@given(st.data())
def test_rule_7_whatever_happens_and_whenever_it_crashes_nothing_is_signed_twice(data):
    node = Node(me=3)
    node.decided, vows, view = [], {}, 0
    choices = events(node)
    for index in data.draw(st.lists(st.integers(-2, len(choices) - 1), min_size=5, max_size=60)):
        if index < 0:
            if index == -2:
                compact(node)
            restart(node)
            assert (node.core.executed, node.core.me) == (len(node.decided), 3)
        else:
            seen = len(node.durable)
            try:
                effects = choices[index]()
            except AssertionError as error:  # more faulty weight than the rules tolerate
                assert "on another chain" in str(error)  # noqa: PT017
                return
            for decided in of_type(effects, Decide):
                node.decided.append(decided)
                node.execute(decided.certificate.header.seq)
            for vow in of_type(node.durable[seen:], PersistVow):
                place = (vow.phase, vow.epoch, vow.view, vow.seq)
                assert vows.setdefault(place, vow.message) == vow.message
                if vow.phase == "commit":
                    assert has_prepared(node, vow.message)
        assert node.engine.view >= view
        view = node.engine.view


def has_prepared(node: Node, commit: Vote) -> bool:
    """Return whether a durable prepared certificate covers a COMMIT (rule 7)."""
    records = [e.record for e in node.durable if isinstance(e, PersistNote)]
    return any(
        isinstance(record, Certificate)
        and record.kind == "prepare"
        and (record.view, record.header.digest) == (commit.view, commit.digest)
        for record in records
    )
