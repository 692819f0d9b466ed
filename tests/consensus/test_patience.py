"""Timers (rules 6 and 10): when they run, how they back off, and what they cause."""

from __future__ import annotations

import pytest

from consensus.effects import Broadcast, CancelTimer, SetTimer
from consensus.inputs import Executed, Timer, TimerFired, WorkPending
from consensus.messages import Status, ViewChange
from tests.consensus.builders import Node, make_header, of_type

X = make_header("x")
MANY = 12


def asked(effects) -> list[int]:
    """Return the views that were asked for."""
    messages = [effect.message for effect in of_type(effects, Broadcast)]
    return [message.view for message in messages if isinstance(message, ViewChange)]


def busy(**parameters) -> Node:
    node = Node(me=3, **parameters)
    node.step(WorkPending(True))
    return node


def test_rule_10_the_timer_runs_while_work_pends():
    node = Node()
    node.step(WorkPending(False))
    assert Timer.PROGRESS not in node.timers
    node.step(WorkPending(True))
    assert node.timers[Timer.PROGRESS] == 1000
    node.step(WorkPending(False))
    assert Timer.PROGRESS not in node.timers


def test_rule_10_the_timer_runs_while_a_slot_is_undecided():
    node = Node()
    node.receive(node.peers.proposal("x", X))
    assert node.timers[Timer.PROGRESS] == 1000
    node.votes("commit", X, 0, 2, 3)
    assert Timer.PROGRESS not in node.timers


def test_rule_10_the_timer_restarts_on_each_decision_and_on_nothing_else():
    node = busy()
    assert of_type(node.engine.step(WorkPending(True)), SetTimer, CancelTimer) == []
    node.receive(node.peers.proposal("x", X))
    assert of_type(node.engine.step(WorkPending(True)), SetTimer) == []
    node.timers.clear()
    node.votes("commit", X, 0, 1, 2)
    assert node.timers == {Timer.PROGRESS: 1000}


def test_rule_10_a_primary_that_gets_on_is_not_suspected():
    """The first undecided slot is accepted, then prepared: each starts the timer again, once."""
    node = busy()
    node.timers.clear()
    node.approve("x", X)
    assert node.timers == {Timer.PROGRESS: 1000}
    node.timers.clear()
    node.receive(node.peers.proposal("x", X))
    assert node.timers == {}
    node.votes("prepare", X, 1)
    assert node.timers == {Timer.PROGRESS: 1000}
    node.timers.clear()
    node.votes("prepare", X, 2)
    node.votes("commit", X, 1)
    assert node.timers == {}


def test_rule_10_what_comes_after_the_first_undecided_slot_is_no_progress():
    """A primary that goes on proposing and lets nothing be decided is not waited for."""
    node = busy()
    node.approve("x", X)
    node.timers.clear()
    node.approve("y", make_header("y", 2, X.digest))
    assert node.timers == {}


def decide(node: Node, count: int, took_ms: int) -> None:
    for _ in range(count):
        seq = node.core.tip_seq + 1
        header = make_header(f"b{seq}", seq, node.core.tip_digest)
        node.receive(node.peers.proposal(f"b{seq}", header, node.core.view))
        node.votes("commit", header, 0, 1, 2, view=node.core.view)
        node.step(Executed(seq, bytes(32), took_ms=took_ms))


def test_rule_10_the_time_out_follows_what_decisions_take():
    node = busy()
    decide(node, 3, 100)
    assert node.engine.patience_ms == 1000  # the base at least
    decide(node, 40, 3000)
    assert 3000 <= node.engine.patience_ms < 3300
    assert node.timers[Timer.RESEND] == 1000
    assert 3000 <= node.timers[Timer.PROGRESS] < 3400
    decide(node, 60, 100)
    assert node.engine.patience_ms == 1000


def test_rule_10_who_is_slow_on_purpose_does_not_outlast_its_view():
    node = busy(view_limit_ms=30_000, max_timeout_ms=60_000)
    decide(node, 40, 29_000)
    assert node.engine.patience_ms == 10_000


def test_rule_10_what_a_view_change_took_says_nothing_on_decisions():
    node = busy()
    decide(node, 2, 100)
    tip = node.core.tip_certificate
    node.receive(node.peers.new_view(1, [node.peers.view_change(s, 1, tip) for s in range(3)]))
    decide(node, 1, 50_000)
    assert node.engine.patience_ms == 1000


def test_a_timer_that_nobody_set_changes_nothing():
    node = Node()
    node.step(WorkPending(False))
    before = node.core.view
    assert node.step(TimerFired(Timer.PROGRESS)) == []
    assert node.core.view == before


def test_rule_10_no_time_out_leads_past_a_view_that_few_have_asked_for():
    """Start the timer for v + 1 only on a quorum at v or later."""
    node = busy()
    assert asked(node.fire(Timer.PROGRESS)) == [1]
    assert Timer.PROGRESS not in node.timers
    node.receive(node.peers.view_change(0, 1))
    assert Timer.PROGRESS not in node.timers
    node.receive(node.peers.view_change(2, 4))  # later counts as well
    assert node.timers[Timer.PROGRESS] == 2000
    assert asked(node.fire(Timer.PROGRESS)) == [2]


def run_out(node: Node, times: int) -> list[int]:
    """Let the progress timer run out again and again; return the delays that were set."""
    delays = []
    for _ in range(times):
        view = node.engine.view + 1
        node.fire(Timer.PROGRESS)
        for signer in (0, 1):
            node.receive(node.peers.view_change(signer, view))
        delays.append(node.timers[Timer.PROGRESS])
    return delays


def test_rule_10_the_time_out_doubles_up_to_the_maximum():
    node = busy(base_timeout_ms=1000, max_timeout_ms=60_000)
    delays = run_out(node, MANY)
    assert delays == [2000, 4000, 8000, 16_000, 32_000] + [60_000] * (MANY - 5)


def test_rule_10_each_decision_halves_it_down_to_the_base():
    """However long the maximum has lasted, the first decision already helps."""
    node = busy()
    run_out(node, MANY)
    view = node.engine.view
    node.receive(node.peers.new_view(view, [node.peers.view_change(s, view) for s in range(3)]))
    delays = []
    for index in range(8):
        header = make_header(f"b{index}", node.core.tip_seq + 1, node.core.tip_digest)
        node.receive(node.peers.proposal(f"b{index}", header, view))
        node.votes("commit", header, 0, 1, 2, view=view)
        node.execute(header.seq)
        delays.append(node.timers[Timer.PROGRESS])
    assert delays == [32_000, 16_000, 8000, 4000, 2000, 1000, 1000, 1000]


def test_rule_10_resend_says_where_we_are_and_asks_again_for_the_view():
    node = busy()
    (status,) = [e.message for e in node.fire(Timer.RESEND)]
    assert status == Status(epoch=0, view=0, changing=False, height=0)
    assert node.timers[Timer.RESEND] == 1000
    node.fire(Timer.PROGRESS)
    change, status = [e.message for e in node.fire(Timer.RESEND)]
    assert change == node.peers.view_change(3, 1)
    assert status == Status(epoch=0, view=1, changing=True, height=0)


def test_rule_10_resend_repeats_an_unstable_checkpoint_vote():
    node = busy()
    node.decide(*"abcd")
    own = node.core.checkpoint_votes[4][3]
    assert Broadcast(own) in node.fire(Timer.RESEND)


def test_rule_6_after_the_limit_the_view_changes_without_back_off():
    node = busy(view_limit_ms=30_000)
    assert node.timers[Timer.ROTATE] == 30_000
    assert asked(node.fire(Timer.ROTATE)) == [1]
    for signer in (0, 2):
        node.receive(node.peers.view_change(signer, 1))
    assert node.timers[Timer.PROGRESS] == 1000


def test_rule_6_an_idle_view_may_last():
    node = Node()
    node.step(WorkPending(False))
    assert asked(node.fire(Timer.ROTATE)) == []
    assert node.timers[Timer.ROTATE] == 30_000


def test_rule_6_the_limit_counts_from_the_view():
    node = busy()
    node.timers.clear()
    node.receive(node.peers.new_view(1, [node.peers.view_change(s, 1) for s in range(3)]))
    assert node.timers[Timer.ROTATE] == 30_000
    node.timers.clear()
    node.receive(node.peers.proposal("x", X, 1))
    node.votes("commit", X, 0, 1, 2, view=1)
    assert Timer.ROTATE not in node.timers  # a decision does not prolong it


@pytest.mark.parametrize("term", [1, 3])
def test_rule_6_the_term_ends_with_its_last_slot_and_without_back_off(term: int):
    node = busy(term=term)
    effects = node.decide(*"abc"[:term])
    assert asked(effects) == [1]
    assert node.engine.view == 1
    for signer in (0, 2):
        node.receive(node.peers.view_change(signer, 1, node.core.tip_certificate))
    assert node.timers[Timer.PROGRESS] == 1000


def test_rule_6_a_term_counts_from_the_views_base():
    node = Node(me=3, term=2)
    node.decide("a")
    tip = node.core.tip_certificate
    changes = [node.peers.view_change(s, 1, tip) for s in range(3)]
    node.receive(node.peers.new_view(1, changes))
    assert node.core.last_open == 3
    node.decide("b", view=1)
    assert node.engine.view == 1
    node.decide("c", view=1)
    assert (node.engine.view, node.core.changing) == (2, True)
