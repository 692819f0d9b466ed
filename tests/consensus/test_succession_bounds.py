"""View change: both sides of what selection, the floor, and slots already decided decide by."""

from __future__ import annotations

from consensus.effects import Broadcast, PersistVow
from consensus.inputs import Timer, WorkPending
from consensus.messages import NewView, Vote
from consensus.succession import select, start_view_change
from tests.consensus.builders import (
    GENESIS,
    Node,
    Signers,
    make_chain,
    make_voters,
    of_type,
)

SIGNERS = Signers(make_voters(1, 1, 1, 1))
CHAIN = make_chain("w", "x", "y", "z")
W, X, Y, Z = CHAIN


def prepared(*headers) -> list:
    return [SIGNERS.certificate(header, "prepare") for header in headers]


def change(signer: int, view: int = 1, *headers):
    return SIGNERS.view_change(signer, view, None, prepared(*headers))


def leave(node: Node) -> list:
    """Let the replica run out of patience; return what it says."""
    node.step(WorkPending(True))
    return [effect.message for effect in of_type(node.fire(Timer.PROGRESS), Broadcast)]


def test_rule_9_every_prepared_slot_in_a_row_is_selected():
    selection = select([change(0, 3, W, X), change(1, 3, X, Y, Z)], (0, GENESIS))
    assert list(selection.headers) == CHAIN


def test_rule_9_a_view_change_tells_every_prepared_slot_of_a_full_window():
    """The last of them may be committed elsewhere, like any other."""
    node = Node(me=3, window=4)
    for name, header in zip("wxyz", CHAIN, strict=True):
        node.approve(name, header)
        node.votes("prepare", header, 1)
    (message,) = leave(node)
    assert [certificate.header for certificate in message.prepared] == CHAIN


def test_rule_9_a_slot_that_the_tip_vouches_for_is_not_told_again():
    """Others would refuse the message: its body may be lacking, the tip is enough."""
    node = Node(me=3)
    tip = SIGNERS.view_change(0, 1, SIGNERS.certificate(W))
    node.receive(SIGNERS.new_view(1, [tip, change(1), change(2)]))
    node.core.slot(1).prepared = SIGNERS.certificate(W, "prepare")
    start_view_change(node.core, 2)
    (message,) = [effect.message for effect in of_type(node.core.take_effects(), Broadcast)]
    assert (message.tip.header, message.prepared) == (W, ())


def test_rule_7_a_replica_may_ask_for_the_view_it_is_in_and_for_none_below():
    node = Node(me=3)
    node.enter(2, changing=False)
    start_view_change(node.core, 1)
    assert node.core.take_effects() == []
    start_view_change(node.core, 2)
    assert of_type(node.core.take_effects(), PersistVow)
    start_view_change(node.core, 2)
    assert node.core.take_effects() == []


def test_rule_9_who_is_not_the_primary_opens_nothing():
    node = Node(me=3)
    leave(node)
    effects = [e for signer in (0, 2) for e in node.receive(change(signer))]
    assert [e for e in of_type(effects, Broadcast) if isinstance(e.message, NewView)] == []
    assert node.core.changing


def test_rule_9_the_view_that_was_asked_for_is_entered_and_its_wishes_are_forgotten():
    node = Node(me=3)
    leave(node)
    later = change(0, 2)
    node.receive(later)
    node.receive(SIGNERS.new_view(1, [change(signer) for signer in range(3)]))
    assert (node.engine.view, node.core.changing) == (1, False)
    assert node.core.view_changes == {0: later}


def test_rule_9_nobody_opens_view_0():
    node = Node(me=3)
    node.enter(0, changing=True)
    changes = [change(signer, 0) for signer in range(3)]
    assert node.refused(SIGNERS.new_view(0, changes)) == "not_primary"


def test_rule_9_a_selected_slot_that_is_decided_here_is_not_voted_on_again():
    node = Node(me=3)
    node.decide("w")
    effects = node.receive(SIGNERS.new_view(1, [change(0, 1, W, X), change(1), change(2)]))
    voted = [e.message.seq for e in of_type(effects, Broadcast) if isinstance(e.message, Vote)]
    assert voted == [2]
    assert set(node.core.slots) == {2}
