"""Ancestors of the tip (rule 4): decided with it, and made deliverable by whoever is honest."""

from __future__ import annotations

from consensus.effects import Broadcast, Decide, PersistVow
from consensus.messages import Vote
from tests.consensus.builders import Node, make_chain, of_type

W, X, Y = make_chain("w", "x", "y")


def jumped(*known: str, tip=Y) -> Node:
    """Return replica 3 in view 1, which a NEW-VIEW brought to `tip`; it has `known` proposals."""
    node = Node(me=3)
    for name, header in zip("wxy", (W, X, Y), strict=True):
        if name in known:
            node.receive(node.peers.proposal(name, header))
    certificate = node.peers.certificate(tip)
    changes = [node.peers.view_change(s, 1, certificate) for s in (0, 1, 2)]
    node.effects = node.receive(node.peers.new_view(1, changes))
    return node


def commits(effects) -> list[tuple[int, bytes]]:
    votes = [effect.message for effect in of_type(effects, Broadcast)]
    return [(v.seq, v.digest) for v in votes if isinstance(v, Vote) and v.kind == "commit"]


def test_rule_4_ancestors_without_a_certificate_are_committed_again():
    node = jumped("w", "x", "y")
    assert sorted(commits(node.effects)) == [(1, W.digest), (2, X.digest)]
    assert {v.view for v in (e.message for e in of_type(node.effects, PersistVow))} == {1}


def test_rule_4_a_quorum_of_such_commits_delivers_the_ancestors():
    node = jumped("w", "x", "y")
    assert of_type(node.votes("commit", W, 0, view=1), Decide) == []
    (first,) = of_type(node.votes("commit", W, 1, view=1), Decide)
    assert first.certificate.header == W
    decided = of_type(node.votes("commit", X, 0, 1, view=1), Decide)
    assert [d.certificate.header for d in decided] == [X, Y]


def test_rule_4_the_chain_is_followed_only_as_far_as_its_headers_are_known():
    """The tip's header names slot 2's digest; slot 1's stands in slot 2's header."""
    node = jumped("w", "y")
    assert commits(node.effects) == [(2, X.digest)]
    effects = node.receive(node.peers.proposal("x", X, 1), peer=0)
    assert commits(effects) == []  # below the tip no proposal is taken any more


def test_rule_4_a_decided_ancestor_is_not_committed_again():
    node = Node(me=3)
    node.decide("w")
    node.receive(node.peers.proposal("x", X))
    node.receive(node.peers.proposal("y", Y))
    certificate = node.peers.certificate(Y)
    changes = [node.peers.view_change(s, 1, certificate) for s in (0, 1, 2)]
    effects = node.receive(node.peers.new_view(1, changes))
    assert commits(effects) == [(2, X.digest)]


def test_rule_4_commits_for_a_slot_below_the_tip_count_only_while_it_is_missing():
    node = jumped("w", "x", "y")
    assert node.receive(node.peers.vote("commit", 0, W, 1)) == []
    assert node.refused(node.peers.vote("prepare", 0, W, 1)) == "stale"
    node.votes("commit", W, 1, view=1)
    assert node.refused(node.peers.vote("commit", 2, W, 1)) == "stale"


def test_rule_7_such_a_commit_comes_back_after_a_restart():
    node = jumped("w", "x", "y")
    own = [e.message for e in of_type(node.durable, PersistVow)]
    node.engine = node.build(persisted=list(node.durable))
    assert [node.core.slots[seq].committed for seq in (1, 2)] == [W.digest, X.digest]
    before = len(node.durable)
    node.votes("commit", W, 0, view=1)
    assert of_type(node.durable[before:], PersistVow) == []
    assert own


def test_rule_8_an_observer_commits_nothing_and_decides_with_the_others():
    node = Node(me=None)
    for name, header in zip("wx", (W, X), strict=True):
        node.receive(node.peers.proposal(name, header))
    certificate = node.peers.certificate(X)
    changes = [node.peers.view_change(s, 1, certificate) for s in (0, 1, 2)]
    assert commits(node.receive(node.peers.new_view(1, changes))) == []
    decided = of_type(node.votes("commit", W, 0, 1, 2, view=1), Decide)
    assert [d.certificate.header for d in decided] == [W, X]
