"""The normal case (rules 2, 4 and 5): what is approved, committed and decided, and when not."""

from __future__ import annotations

import pytest

from consensus.core import VOTE_RANGE
from consensus.effects import Broadcast, CheckBatch, Decide, PersistNote, PersistVow, Refused
from consensus.inputs import BatchChecked
from consensus.messages import PrePrepare, ViewChange, Vote
from tests.consensus.builders import (
    GENESIS,
    Node,
    make_batch,
    make_chain,
    make_header,
    of_type,
    replaced,
)

X, Y = make_header("x"), make_header("y")


def said(effects, kind: str) -> list[Vote]:
    messages = [effect.message for effect in of_type(effects, Broadcast)]
    return [m for m in messages if isinstance(m, Vote) and m.kind == kind]


def test_rule_4_the_proposal_is_the_primarys_approval():
    node = Node(me=0)
    effects = node.propose("x")
    (proposal,) = [e.message for e in of_type(effects, Broadcast)]
    assert isinstance(proposal, PrePrepare)
    assert proposal.header == make_header("x")
    assert proposal.vote == node.peers.vote("prepare", 0, proposal.header)
    kinds = [type(effect) for effect in effects[:3]]
    assert kinds == [PersistVow, PersistNote, Broadcast]  # on disk before it leaves


def test_rule_4_only_the_primary_proposes_and_only_within_the_window():
    backup, primary = Node(me=1), Node(me=0, window=2)
    assert backup.engine.open_slot is None
    assert of_type(backup.propose("x"), Broadcast) == []
    primary.propose("x")
    primary.propose("y")
    assert primary.engine.open_slot is None
    assert of_type(primary.propose("z"), Broadcast) == []
    assert primary.engine.in_flight == [make_batch("x"), make_batch("y")]


def test_rule_4_the_window_waits_for_execution():
    """Each batch names the state W slots before it, so that slot is executed first (rule 11)."""
    node = Node(me=0, window=2)
    for seq, name in enumerate("xy", 1):
        node.propose(name)
        header = make_header(name, seq, node.core.tip_digest)
        node.votes("prepare", header, 1, 2)
        node.votes("commit", header, 1, 2)
    assert node.engine.height == 2
    assert node.engine.open_slot is None
    node.execute(1)
    assert node.engine.open_slot == 3
    node.propose("z")
    assert node.engine.open_slot is None
    node.execute(2)
    assert node.engine.open_slot == 4


def test_rule_2_one_phase_does_not_decide():
    node = Node()
    node.approve("x", X)
    effects = node.votes("prepare", X, 2, 3)
    assert of_type(effects, Decide) == []
    assert len(said(effects, "commit")) == 1
    assert of_type(node.votes("commit", X, 0), Decide) == []
    (decided,) = of_type(node.votes("commit", X, 2), Decide)
    assert decided.certificate == node.peers.certificate(X, signers=[0, 1, 2])


def test_rule_7_the_prepared_certificate_is_durable_before_the_commit_leaves():
    node = Node()
    node.approve("x", X)
    effects = node.votes("prepare", X, 2)
    prepared, vow, commit = [
        e for e in effects if isinstance(e, PersistNote | PersistVow | Broadcast)
    ]
    assert (prepared.kind, vow.phase, commit.message.kind) == ("prepared", "commit", "commit")


def test_rule_4_a_commit_needs_the_proposal_accepted_here():
    node = Node()
    effects = node.votes("prepare", X, 0, 2, 3)
    assert said(effects, "commit") == []
    effects = node.approve("x", X)
    assert len(said(effects, "commit")) == 1


def test_rule_4_commits_keep_the_order_of_slots():
    node = Node()
    first, second = make_chain("x", "y")
    node.approve("x", first)
    node.approve("y", second)
    assert said(node.votes("prepare", second, 2, 3), "commit") == []
    commits = said(node.votes("prepare", first, 2), "commit")
    assert [vote.seq for vote in commits] == [1, 2]


def test_rule_4_no_commit_above_an_ancestor_decided_with_another_digest():
    """The mutant "committing above another digest": y extends x, and something else is decided."""
    node = Node()
    first, second = make_chain("x", "y")
    node.approve("x", first)
    node.approve("y", second)
    other = make_header("p")
    node.core.adopt_tip(node.peers.certificate(other, view=0))
    assert said(node.votes("prepare", second, 2, 3), "commit") == []


def test_rule_5_a_wrong_parent_is_rejected():
    node = Node()
    node.approve("x", X)
    stray = make_header("y", 2, parent=GENESIS)
    (reject,) = said(node.receive(node.peers.proposal("y", stray)), "reject")
    assert (reject.seq, reject.digest) == (2, stray.digest)
    assert "parent" in reject.reason


def test_rule_4_a_proposal_waits_for_its_parent():
    node = Node()
    first, second = make_chain("x", "y")
    assert of_type(node.receive(node.peers.proposal("y", second)), CheckBatch) == []
    effects = node.receive(node.peers.proposal("x", first))
    assert [e.seq for e in of_type(effects, CheckBatch)] == [1]
    effects = node.step(BatchChecked(0, 1, first.digest, valid=True))
    assert [e.seq for e in of_type(effects, CheckBatch)] == [2]


def test_rule_3_no_second_vote_for_a_slot():
    """Approved, then rejected, or the other way round: the first answer stands."""
    node = Node()
    assert len(said(node.approve("x", X), "prepare")) == 1
    for valid in (True, False):
        assert node.step(BatchChecked(0, 1, X.digest, valid=valid, reason="no")) == []
    node = Node()
    node.receive(node.peers.proposal("x", X))
    assert len(said(node.step(BatchChecked(0, 1, X.digest, False, "bad")), "reject")) == 1
    assert node.step(BatchChecked(0, 1, X.digest, valid=True)) == []


@pytest.mark.parametrize(
    "checked",
    [
        BatchChecked(1, 1, X.digest, valid=True),  # another view
        BatchChecked(0, 2, X.digest, valid=True),  # no such slot
        BatchChecked(0, 1, Y.digest, valid=True),  # another batch
    ],
)
def test_an_answer_that_nobody_waits_for_changes_nothing(checked: BatchChecked):
    node = Node()
    node.receive(node.peers.proposal("x", X))
    assert node.step(checked) == []
    assert node.core.slots[1].accepted is None


def test_an_answer_that_comes_after_the_decision_changes_nothing():
    node = Node()
    node.receive(node.peers.proposal("x", X))
    node.votes("commit", X, 0, 2, 3)
    assert node.engine.height == 1
    assert node.step(BatchChecked(0, 1, X.digest, valid=True)) == []


def test_rule_5_blocking_weight_of_rejects_changes_the_view_at_once():
    node = Node(400, 200, 200, 200, me=1)
    node.approve("x", X)
    assert of_type(node.votes("reject", X, 2), Broadcast) == []  # 200 of 1000
    effects = node.votes("reject", X, 3)  # 400: more than a third
    assert isinstance(of_type(effects, Broadcast)[0].message, ViewChange)
    assert (node.engine.view, node.core.changing) == (1, True)


def test_rule_5_rejects_of_an_older_view_are_not_counted():
    node = Node()
    node.enter(1, changing=False)
    assert node.refused(node.peers.vote("reject", 2, X)) == "old_view"


def test_rule_4_commits_of_an_older_view_decide():
    node = Node()
    node.receive(node.peers.proposal("x", X))
    node.enter(1, changing=True)
    (decided,) = of_type(node.votes("commit", X, 0, 2, 3), Decide)
    assert decided.certificate.view == 0


def test_rule_2_commits_of_two_views_do_not_add_up():
    node = Node()
    node.receive(node.peers.proposal("x", X))
    node.enter(1, changing=True)
    assert of_type(node.votes("commit", X, 0, 2), Decide) == []
    assert of_type(node.votes("commit", X, 3, view=1), Decide) == []
    assert len(of_type(node.votes("commit", X, 2, 0, view=1), Decide)) == 1


def test_a_decision_waits_for_the_header():
    node = Node()
    assert of_type(node.votes("commit", X, 0, 2, 3), Decide) == []
    assert len(of_type(node.receive(node.peers.proposal("x", X)), Decide)) == 1


def test_rule_4_votes_are_stored_within_the_range_only():
    node = Node()
    far = make_header("x", VOTE_RANGE)
    farther = make_header("x", VOTE_RANGE + 1)
    assert node.receive(node.peers.vote("commit", 2, far)) == []
    assert node.refused(node.peers.vote("commit", 2, farther)) == "out_of_window"
    assert node.refused(node.peers.proposal("x", farther)) == "out_of_window"
    assert node.receive(node.peers.vote("prepare", 2, X, view=1)) == []
    assert node.refused(node.peers.vote("prepare", 2, X, view=2)) == "future_view"


def test_rule_4_nothing_beyond_the_window_is_signed():
    node = Node(window=2)
    chain = make_chain("x", "y", "z")
    for name, header in zip("xyz", chain, strict=True):
        node.approve(name, header)
    assert sorted(e.seq for e in of_type(node.durable, PersistVow)) == [1, 2]
    node.votes("prepare", chain[0], 2)
    node.votes("commit", chain[0], 0, 2)
    effects = node.execute(1)
    assert [e.seq for e in of_type(effects, CheckBatch)] == [3]


def test_rule_20_an_unverified_proposal_occupies_no_slot():
    node = Node()
    proposal = node.peers.proposal("x", X)
    forged = replaced(proposal, vote=replaced(proposal.vote, signature=bytes(64)))
    assert node.refused(forged) == "bad_signature"
    assert node.core.slots == {}


@pytest.mark.parametrize("kind", ["prepare", "reject"])
def test_rule_20_a_proposals_vote_is_verified_even_if_its_digest_is_known(kind: str):
    """The primary's vote came by another way; who hands in the body may not forge the rest."""
    node = Node()
    node.votes(kind, X, 0)
    proposal = node.peers.proposal("x", X)
    forged = replaced(proposal, vote=replaced(proposal.vote, signature=bytes(64)))
    assert node.refused(forged, peer=3) == "bad_signature"
    assert node.core.slots[1].proposal is None


def test_rule_18_a_primary_that_rejects_its_own_proposal_is_caught():
    node = Node()
    node.votes("reject", X, 0)
    effects = node.receive(node.peers.proposal("x", X))
    assert effects[0] == Refused(0, "equivocation")
    assert node.core.known_evidence


def test_the_proposal_may_come_from_anybody():
    """On STATUS a peer passes on the primary's proposal, which proves itself."""
    node = Node()
    effects = node.receive(node.peers.proposal("x", X), peer=3)
    assert [e.seq for e in of_type(effects, CheckBatch)] == [1]


def test_rule_1_a_single_validator_decides_alone():
    node = Node(5, me=0)
    (decided,) = of_type(node.propose("x"), Decide)
    assert decided.batch == make_batch("x")


def test_a_quorum_on_another_chain_stops_the_replica():
    """Safety is broken by then: go no further."""
    node = Node()
    node.decide("x")
    stray = make_header("y", 2, parent=GENESIS)
    node.receive(node.peers.proposal("y", stray))
    node.votes("commit", stray, 0, 2)
    with pytest.raises(AssertionError, match="another chain"):
        node.votes("commit", stray, 3)


def test_wants_says_what_would_be_refused_before_any_signature():
    node = Node()
    node.decide("w")
    header = make_header("x", 2, node.core.tip_digest)
    vote = node.peers.vote("prepare", 2, header)
    assert node.engine.wants(vote)
    node.receive(vote)
    assert not node.engine.wants(vote)
    assert not node.engine.wants(node.peers.vote("commit", 2, make_header("w")))
    assert not node.engine.wants(replaced(vote, epoch=1))
    assert not node.engine.wants(replaced(vote, signer=9))


def test_wants_drops_approvals_past_the_quorum_but_not_commits():
    node = Node()
    node.approve("x", X)
    node.votes("prepare", X, 2)
    assert node.refused(node.peers.vote("prepare", 3, X)) == "past_quorum"
    assert node.receive(node.peers.vote("commit", 3, X)) == []
