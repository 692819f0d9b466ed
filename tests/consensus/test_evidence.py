"""Evidence (rule 18): what contradicts, what does not, and who is told."""

from __future__ import annotations

import pytest

from consensus.effects import Broadcast, Report
from consensus.evidence import MAX_OF_SIGNER, contradicts, report
from consensus.messages import Evidence
from tests.consensus.builders import Node, Signers, make_header, make_voters, of_type, replaced
from tests.consensus.test_epochs import SAME, at_edge, cross

SIGNERS = Signers(make_voters(1, 1, 1, 1))
X, Y = make_header("x"), make_header("y")
FIRST = SIGNERS.vote("prepare", 2, X)
SECOND = SIGNERS.vote("prepare", 2, Y)


def test_rule_18_same_place_and_different_content_contradict():
    assert contradicts(FIRST, SECOND)
    assert contradicts(FIRST, SIGNERS.vote("reject", 2, X))
    assert contradicts(SIGNERS.vote("commit", 2, X), SIGNERS.vote("commit", 2, Y))


@pytest.mark.parametrize(
    "other",
    [
        FIRST,
        replaced(FIRST, reason="words are not signed"),
        replaced(FIRST, signature=bytes(64)),  # the same content, whoever signed it
        SIGNERS.vote("prepare", 3, Y),
        SIGNERS.vote("prepare", 2, Y, view=1),
        SIGNERS.vote("prepare", 2, make_header("y", 2)),
        SIGNERS.vote("commit", 2, Y),
        SIGNERS.vote("prepare", 2, Y, epoch=1),
    ],
)
def test_rule_18_what_does_not_contradict(other):
    assert not contradicts(FIRST, other)


@pytest.mark.parametrize("kind", ["prepare", "commit"])
def test_rule_18_two_votes_on_a_link_are_reported_and_told_once(kind: str):
    node = Node()
    first, second = (SIGNERS.vote(kind, 2, header) for header in (X, Y))
    node.receive(first)
    assert node.receive(second) == [
        Report(first, second),
        Broadcast(Evidence(first=first, second=second)),
    ]
    assert node.receive(second) == []


def test_rule_18_an_approval_and_a_reject_are_evidence():
    node = Node()
    node.receive(FIRST)
    assert len(of_type(node.receive(SIGNERS.vote("reject", 2, X)), Report)) == 1


def test_rule_18_evidence_from_others_is_verified_and_passed_on():
    node = Node()
    evidence = Evidence(first=FIRST, second=SECOND)
    assert node.receive(evidence, peer=3) == [Report(FIRST, SECOND), Broadcast(evidence)]
    assert node.refused(evidence, peer=3) == "duplicate"
    assert node.refused(Evidence(first=SECOND, second=FIRST), peer=0) == "duplicate"


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (FIRST, FIRST, "no_contradiction"),
        (FIRST, replaced(SECOND, signature=bytes(64)), "bad_signature"),
        (replaced(FIRST, signature=bytes(64)), SECOND, "bad_signature"),
        (replaced(FIRST, signer=3), replaced(SECOND, signer=3), "bad_signature"),
        (replaced(FIRST, signer=9), replaced(SECOND, signer=9), "unknown_signer"),
        (replaced(FIRST, epoch=1), replaced(SECOND, epoch=1), "wrong_epoch"),
    ],
)
def test_rule_18_nobody_is_accused_without_proof(first, second, reason: str):
    node = Node()
    assert node.refused(Evidence(first=first, second=second), peer=3) == reason
    assert node.core.known_evidence == {}


def test_rule_18_the_first_vote_counts_on():
    node = Node()
    node.approve("x", X)
    node.receive(FIRST)
    node.receive(SECOND)
    assert node.core.slots[1].committed == X.digest


def test_who_contradicts_itself_without_end_is_proven_often_enough():
    node = Node()
    for view in range(MAX_OF_SIGNER + 5):
        report(node.core, replaced(FIRST, view=view), replaced(SECOND, view=view))
    effects = node.core.take_effects()
    assert len(of_type(effects, Report)) == len(of_type(effects, Broadcast)) == MAX_OF_SIGNER
    assert {signer: len(p) for signer, p in node.core.known_evidence.items()} == {2: MAX_OF_SIGNER}
    more = [SIGNERS.vote("prepare", 2, header, view=77) for header in (X, Y)]
    assert node.refused(Evidence(first=more[0], second=more[1]), peer=3) == "proven_enough"
    other = [SIGNERS.vote("prepare", 3, header) for header in (X, Y)]
    effects = node.receive(Evidence(first=other[0], second=other[1]), peer=2)
    assert of_type(effects, Report) == [Report(*other)]


def test_a_storm_of_contradictions_makes_few_messages():
    """One of four signs 1,500 of them, each told to one honest engine: all three hear of a few."""
    nodes = [Node(me=index) for index in (0, 1, 3)]
    sent = 0
    for number in range(1500):
        pair = [SIGNERS.vote("commit", 2, header, view=number) for header in (X, Y)]
        queue = [(number % 3, Evidence(first=pair[0], second=pair[1]), 2)]
        while queue:
            to, message, origin = queue.pop()
            for told in of_type(nodes[to].receive(message, peer=origin), Broadcast):
                sent += 2
                others = [other for other in range(3) if other != to]
                queue += [(other, told.message, nodes[to].me) for other in others]
    assert sent <= 2 * 3 * MAX_OF_SIGNER
    assert all(node.core.known_evidence for node in nodes)


def test_the_next_epoch_begins_with_a_clean_slate():
    node = at_edge(*SAME)
    report(node.core, FIRST, SECOND)
    cross(node)
    assert node.core.known_evidence == {}


def test_a_proof_changes_nothing_else():
    node = Node()
    report(node.core, FIRST, SECOND)
    node.core.take_effects()
    assert node.core.slots == {}


def test_the_slot_of_a_proof_is_left_alone():
    node = Node()
    node.receive(FIRST)
    node.receive(SECOND)
    assert node.core.slots[1].proposal is None
