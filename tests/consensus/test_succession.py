"""View change (rules 7, 9 and 10): selection, what is refused, who joins and who opens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.effects import Broadcast, PersistFloor, PersistNote, PersistVow, Send
from consensus.inputs import BatchChecked, Timer, WorkPending
from consensus.messages import FetchBatch, NewView, ViewChange, Vote
from consensus.succession import select
from tests.consensus.builders import (
    GENESIS,
    Node,
    Signers,
    make_chain,
    make_header,
    make_voters,
    of_type,
    patient,
    replaced,
)

VOTERS = make_voters(1, 1, 1, 1)
SIGNERS = Signers(VOTERS)
W, X, Y, Z = make_chain("w", "x", "y", "z")


def prepared(header, view: int = 0):
    return SIGNERS.certificate(header, "prepare", view)


def change(signer: int, view: int = 3, tip=None, *slots):
    return SIGNERS.view_change(signer, view, tip, slots)


def chosen(*changes, base=(0, GENESIS)) -> tuple:
    selection = select(changes, base)
    return selection.base.header if selection.base else None, list(selection.headers)


# --- selection -------------------------------------------------------------------------------


def test_rule_9_nothing_prepared_selects_nothing():
    assert chosen(change(0), change(1), change(2)) == (None, [])


def test_rule_9_the_base_is_the_highest_tip():
    tips = [SIGNERS.certificate(header) for header in (W, X)]
    found = chosen(change(0, 3, tips[0]), change(1, 3, tips[1], prepared(Y)), change(2))
    assert found == (X, [Y])


def test_rule_9_slots_at_or_below_the_base_are_left_out():
    tip = SIGNERS.certificate(X)
    found = chosen(change(0, 3, tip), change(1, 3, None, prepared(W), prepared(X), prepared(Y)))
    assert found == (X, [Y])


def test_rule_9_the_highest_view_wins_a_slot():
    other = make_header("other", 1)
    old, new = prepared(W, 0), prepared(other, 2)
    assert chosen(change(0, 3, None, old), change(1, 3, None, new)) == (None, [other])
    assert chosen(change(0, 3, None, new), change(1, 3, None, old)) == (None, [other])


def test_rule_9_the_first_missing_slot_ends_it():
    assert chosen(change(0, 3, None, prepared(W), prepared(Y), prepared(Z))) == (None, [W])


def test_rule_9_a_parent_mismatch_ends_it():
    other = make_header("other", 1)
    slots = (prepared(other, 1), prepared(X, 0), prepared(Y, 0))
    assert chosen(change(0, 3, None, *slots)) == (None, [other])
    assert chosen(change(0, 3, SIGNERS.certificate(other), *slots[1:])) == (other, [])


def test_rule_9_in_a_later_epoch_selection_starts_at_the_epochs_base():
    first = make_header("x", 9, parent=W.digest)
    assert chosen(change(0, 3, None, prepared(first)), base=(8, W.digest)) == (None, [first])
    assert chosen(change(0, 3, None, prepared(first)), base=(8, X.digest)) == (None, [])


@st.composite
def view_changes(draw):
    """A few view changes over two branches of headers, as different quorums may know them."""
    branch = make_chain("a", "b", "c"), make_chain("a", "p", "q")
    changes = []
    for signer in range(draw(st.integers(1, 4))):
        tip_seq = draw(st.integers(0, 2))
        tip = SIGNERS.certificate(branch[0][tip_seq - 1], view=tip_seq) if tip_seq else None
        slots = []
        for seq in range(tip_seq + 1, 4):
            if draw(st.booleans()):
                # One view prepares one digest: odd views the second branch, even ones the first.
                view = draw(st.integers(0, 4))
                slots.append(prepared(branch[view % 2][seq - 1], view))
        changes.append(change(signer, 5, tip, *slots))
    return changes


@patient
@given(view_changes(), st.randoms(use_true_random=False))
def test_rule_9_selection_does_not_depend_on_the_order(changes, random):
    shuffled = list(changes)
    random.shuffle(shuffled)
    assert chosen(*shuffled) == chosen(*changes)


@patient
@given(view_changes())
def test_rule_9_selection_is_a_chain_above_the_base(changes):
    base, headers = chosen(*changes)
    seq, parent = (base.seq, base.digest) if base else (0, GENESIS)
    for header in headers:
        assert (header.seq, header.parent) == (seq + 1, parent)
        seq, parent = header.seq, header.digest
    for other in changes:
        assert other.tip is None or (base is not None and base.seq >= other.tip.header.seq)


# --- what a view change may not be ------------------------------------------------------------


def spoiled() -> dict[str, tuple[ViewChange, str]]:
    """Return view changes of validator 2 to view 1, each with the reason that refuses it."""
    good = SIGNERS.view_change(2, 1)
    later_epoch = make_header("x", epoch=1)
    foreign = Signers(make_voters(1, 1, 1, 1, epoch=1)).certificate(later_epoch, "prepare")
    weak = SIGNERS.certificate(W, "prepare", signers=[0, 1])
    return {
        "unsigned": (replaced(good, signature=bytes(64)), "bad_signature"),
        "another view": (replaced(good, view=2), "bad_signature"),
        "another tip": (replaced(good, tip=SIGNERS.certificate(W)), "bad_signature"),
        "hides a slot": (
            replaced(SIGNERS.view_change(2, 1, None, [prepared(W)]), prepared=()),
            "bad_signature",
        ),
        "epoch": (replaced(good, epoch=1), "wrong_epoch"),
        "tip is prepared only": (SIGNERS.view_change(2, 1, prepared(W)), "bad_proof"),
        "slot is committed": (
            SIGNERS.view_change(2, 1, None, [SIGNERS.certificate(W)]),
            "bad_proof",
        ),
        "no quorum": (SIGNERS.view_change(2, 1, None, [weak]), "bad_proof"),
        "slot of this view": (SIGNERS.view_change(2, 1, None, [prepared(W, 1)]), "bad_proof"),
        "twice": (SIGNERS.view_change(2, 1, None, [prepared(W), prepared(W)]), "bad_proof"),
        "descending": (SIGNERS.view_change(2, 1, None, [prepared(X), prepared(W)]), "bad_proof"),
        "below the tip": (
            SIGNERS.view_change(2, 1, SIGNERS.certificate(X), [prepared(W)]),
            "bad_proof",
        ),
        "beyond the window": (
            SIGNERS.view_change(2, 1, None, [prepared(make_header("far", 5))]),
            "bad_proof",
        ),
        "slot of another epoch": (SIGNERS.view_change(2, 1, None, [foreign]), "wrong_epoch"),
        "tip of another epoch": (
            SIGNERS.view_change(
                2, 1, Signers(make_voters(1, 1, 1, 1, epoch=1)).certificate(later_epoch)
            ),
            "wrong_epoch",
        ),
    }


@pytest.mark.parametrize("what", spoiled())
def test_rule_9_a_spoiled_view_change_is_refused(what: str):
    message, reason = spoiled()[what]
    node = Node()
    assert node.refused(message) == reason
    assert node.core.view_changes == {}


def test_rule_9_the_window_above_the_tip_may_be_full():
    node = Node(window=4)
    chain = make_chain(*"abcd", parent=W.digest, first=2)
    slots = [prepared(header) for header in chain]
    assert node.receive(SIGNERS.view_change(2, 1, SIGNERS.certificate(W), slots)) == []


@pytest.mark.parametrize("view", [0, 1])
def test_rule_10_a_view_that_is_over_is_stale(view: int):
    node = Node()
    node.enter(1, changing=False)
    assert node.refused(SIGNERS.view_change(2, view)) == "stale"


def test_rule_10_only_a_later_wish_replaces_an_earlier_one():
    node = Node()
    node.receive(SIGNERS.view_change(2, 2))
    assert node.refused(SIGNERS.view_change(2, 2)) == "stale"
    assert node.refused(SIGNERS.view_change(2, 1)) == "stale"
    assert node.receive(SIGNERS.view_change(2, 3)) == []
    assert node.refused(SIGNERS.view_change(2, 4), peer=3) == "foreign_vote"


# --- leaving, joining, opening ------------------------------------------------------------------


def leave(node: Node) -> list:
    """Let the replica run out of patience."""
    node.step(WorkPending(True))
    return node.fire(Timer.PROGRESS)


def test_rule_7_the_floor_is_durable_before_the_view_change_leaves():
    effects = leave(Node(me=3))
    assert [type(e) for e in effects[:3]] == [PersistFloor, PersistVow, Broadcast]
    assert effects[2].message == SIGNERS.view_change(3, 1)


def test_rule_9_a_view_change_tells_tip_and_prepared_slots():
    node = Node(me=3)
    node.decide("w")
    node.approve("x", X)
    node.votes("prepare", X, 1)
    (message,) = [e.message for e in of_type(leave(node), Broadcast)]
    assert message.tip.header == W
    assert [certificate.header for certificate in message.prepared] == [X]


def test_rule_9_after_a_view_change_nothing_of_the_old_view_is_signed():
    """The mutant "vote in the old view after VIEW-CHANGE"."""
    node = Node(me=3)
    node.approve("w", W)
    leave(node)
    assert node.refused(SIGNERS.vote("prepare", 1, W)) == "old_view"
    assert node.refused(SIGNERS.proposal("w", W)) == "other_view"
    assert node.step(BatchChecked(0, 1, W.digest, valid=True)) == []


def test_rule_10_blocking_weight_is_joined_at_the_greatest_such_view():
    node = Node(me=3)
    node.receive(SIGNERS.view_change(0, 7))
    assert node.engine.view == 0
    node.receive(SIGNERS.view_change(1, 5))
    assert (node.engine.view, node.core.changing) == (5, True)
    node.receive(SIGNERS.view_change(2, 6))
    assert node.engine.view == 6


def test_rule_9_the_primary_opens_its_view_with_a_quorum_of_exactly_it():
    node = Node(me=1)
    leave(node)
    node.receive(SIGNERS.view_change(2, 2))
    assert of_type(node.receive(SIGNERS.view_change(0, 1)), Broadcast) == []
    effects = node.receive(SIGNERS.view_change(3, 1))
    (opened,) = [e.message for e in of_type(effects, Broadcast)]
    assert isinstance(opened, NewView)
    assert [c.signer for c in opened.view_changes] == [0, 1, 3]
    assert isinstance(effects[0], PersistVow)
    assert not node.core.changing


def test_rule_9_a_selected_slot_is_approved_without_its_body():
    node = Node(me=3)
    changes = [change(0, 1, None, prepared(W)), change(1, 1), change(2, 1)]
    effects = node.receive(SIGNERS.new_view(1, changes))
    votes = [e.message for e in of_type(effects, Broadcast)]
    assert votes == [SIGNERS.vote("prepare", 3, W, view=1)]
    assert [e.message for e in of_type(effects, Send)] == [FetchBatch(seq=1, digest=W.digest)]


def test_rule_9_the_base_becomes_the_tip_before_anything_is_signed():
    """The mutant "lowest base": approving below a decided slot would be fatal."""
    node = Node(me=3)
    changes = [change(0, 1, SIGNERS.certificate(W), prepared(X)), change(1, 1), change(2, 1)]
    effects = node.receive(SIGNERS.new_view(1, changes))
    kinds = [e.kind if isinstance(e, PersistNote) else type(e) for e in effects]
    assert kinds.index("tip") < kinds.index(PersistVow)
    assert (node.core.tip_seq, node.core.base_seq, node.engine.height) == (1, 1, 0)
    assert [e.message.seq for e in of_type(effects, Broadcast) if isinstance(e.message, Vote)] == [
        2
    ]


def bad_new_views() -> dict[str, tuple[NewView, str]]:
    changes = [change(signer, 1) for signer in range(4)]
    honest = SIGNERS.new_view(1, changes[:3])
    hidden = SIGNERS.view_change(0, 1, None, [prepared(W)])
    return {
        "no quorum": (SIGNERS.new_view(1, changes[:2]), "no_quorum"),
        "one counted twice": (
            SIGNERS.new_view(1, [changes[0], changes[0], changes[1]]),
            "malformed",
        ),
        "not ascending": (SIGNERS.new_view(1, changes[2::-1]), "malformed"),
        "of another view": (SIGNERS.new_view(1, [*changes[:2], change(2, 2)]), "malformed"),
        "not the primary": (SIGNERS.new_view(1, changes, signer=2), "not_primary"),
        "view 0": (SIGNERS.new_view(0, []), "stale"),
        "unsigned": (replaced(honest, signature=bytes(64)), "bad_signature"),
        "a part exchanged": (
            replaced(honest, view_changes=tuple(changes[1:])),
            "bad_signature",
        ),
        "a part altered": (
            SIGNERS.new_view(1, [replaced(hidden, prepared=()), *changes[1:]]),
            "bad_signature",
        ),
        "epoch": (replaced(honest, epoch=1), "wrong_epoch"),
        "empty": (SIGNERS.new_view(1, []), "no_quorum"),
    }


@pytest.mark.parametrize("what", bad_new_views())
def test_rule_9_a_lying_new_view_is_refused(what: str):
    message, reason = bad_new_views()[what]
    node = Node(me=3)
    assert node.refused(message) == reason
    assert (node.engine.view, node.core.changing) == (0, False)


def test_rule_9_a_new_view_of_a_higher_view_raises_the_floor():
    node = Node(me=3)
    changes = [change(signer, 6) for signer in range(3)]
    effects = node.receive(SIGNERS.new_view(6, changes))
    assert effects[0] == PersistFloor(0, 6)
    assert node.engine.view == 6
    assert node.refused(SIGNERS.new_view(5, [change(s, 5) for s in range(3)])) == "stale"
    assert node.refused(SIGNERS.new_view(6, changes)) == "stale"


def test_rule_8_an_observer_stays_where_the_proposals_are():
    """It may not ask for a view, so it must not leave one by itself either."""
    node = Node(me=None)
    node.receive(SIGNERS.proposal("w", W))
    assert of_type(node.fire(Timer.PROGRESS), Broadcast, PersistFloor) == []
    for signer in range(3):
        node.receive(SIGNERS.view_change(signer, 1))
    assert (node.engine.view, node.core.changing) == (0, False)
    node.receive(SIGNERS.new_view(1, [change(signer, 1) for signer in range(3)]))
    assert (node.engine.view, node.core.changing) == (1, False)
    assert of_type(node.durable, PersistVow) == []
