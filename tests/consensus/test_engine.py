"""The engine's door: an invalid input changes nothing, and each reason is counted by its name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import consensus
from consensus.effects import Broadcast, Refused, Report
from consensus.inputs import (
    BatchChecked,
    Executed,
    Propose,
    Received,
    Timer,
    TimerFired,
    WorkPending,
)
from consensus.messages import Evidence, Message
from protocol.codec import decode, encode, sha256
from protocol.errors import DecodeError, ProofError
from tests.consensus.builders import (
    Node,
    make_batch,
    make_header,
    of_type,
    patient,
    projection,
)
from tests.consensus.refusals import (
    B,
    C,
    D,
    E,
    busy,
    checkpoint,
    contradiction,
    decided,
    refusals,
)


def deep(node: Node) -> object:
    """Return all the core holds but the memory of certificates that were once judged true."""
    core = dict(vars(node.core))
    del core["_judged"]
    return projection(core)


@pytest.mark.parametrize("what", refusals(busy()))
def test_an_invalid_input_changes_nothing(what: str):
    node = busy()
    reason, peer, message = refusals(node)[what]
    before = deep(node)
    assert node.step(Received(peer, message)) == [Refused(peer, reason)]
    assert deep(node) == before


def reasons_in_the_source() -> set[str]:
    source = "".join(path.read_text() for path in Path(consensus.__file__).parent.glob("*.py"))
    literal = set(re.findall(r'UnwantedError\("(\w+)"\)', source))
    returned = set(re.findall(r'^ +return "(\w+)"$', source, re.MULTILINE))
    return literal | returned | {ProofError.reason}


def test_every_reason_is_produced():
    """A new reason needs a line above."""
    produced = {reason for reason, _, _ in refusals(busy()).values()}
    assert produced | {"equivocation"} == reasons_in_the_source()


def test_rule_18_an_equivocating_proposal_is_refused_and_reported_and_changes_nothing_else():
    node = busy()
    other = make_header("other", 3, B.digest)
    before = deep(node)
    effects = node.receive(node.peers.proposal("other", other, 3))
    assert [type(effect) for effect in effects] == [Refused, Report, Broadcast]
    assert effects[0].reason == "equivocation"
    node.core.known_evidence.popitem()
    assert deep(node) == before


def test_the_projection_sees_every_kind_of_change():
    """The test above rests on it: each of these valid messages must be visible."""
    node = busy()
    p, tip = node.peers, node.core.tip_certificate
    for message in (
        p.vote("prepare", 0, E, 3),
        p.proposal("d", D, 3),
        p.view_change(0, 5, tip),
        p.checkpoint_vote(0, checkpoint()),
        Evidence(first=contradiction(node, 0)[0], second=contradiction(node, 0)[1]),
    ):
        before = deep(node)
        assert of_type(node.step(Received(_sender(message), message)), Refused) == []
        assert deep(node) != before


def _sender(message: Message) -> int:
    return message.vote.signer if hasattr(message, "vote") else getattr(message, "signer", 0)


def samples(node: Node) -> list[Message]:
    p, tip = node.peers, node.core.tip_certificate
    slots = [p.certificate(B, "prepare", view=3)]
    return [
        *(message for _, _, message in refusals(node).values()),
        p.vote("commit", 0, C, 3),
        p.proposal("d", D, 3),
        p.view_change(0, 4, tip, slots),
        p.new_view(4, [p.view_change(s, 4, tip, slots) for s in (0, 1, 2)]),
        p.stable(checkpoint(), [0, 1, 2]),
        decided(node, "b", B),
    ]


@settings(patient, max_examples=300)
@given(st.data())
def test_flipped_bits_are_refused_or_harmless(data: st.DataObject):
    """One bit of a message, anywhere: it no longer decodes, or it is refused without a trace."""
    node = busy()
    messages = samples(node)
    message = messages[data.draw(st.integers(0, len(messages) - 1))]
    raw = bytearray(encode(message))
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << (bit % 8)
    try:
        changed = decode(Message, bytes(raw))
    except DecodeError:
        return
    before = deep(node)
    effects = node.step(Received(data.draw(st.integers(0, 3)), changed))
    if any(isinstance(e, Refused) and e.reason != "equivocation" for e in effects):
        assert len(effects) == 1
        assert deep(node) == before


@pytest.mark.parametrize(
    "event",
    [
        Propose(make_batch("z")),  # not the primary
        BatchChecked(3, 3, C.digest, valid=False),  # judged already
        BatchChecked(3, 2, B.digest, valid=False),
        BatchChecked(0, 3, C.digest, valid=True),
        Executed(0, sha256(b"old")),
        WorkPending(False),
    ],
    ids=str,
)
def test_an_input_that_came_too_late_changes_nothing(event):
    node = busy()
    before = deep(node)
    assert node.step(event) == []
    assert deep(node) == before


@pytest.mark.parametrize("timer", list(Timer))
def test_a_timer_of_an_idle_replica_changes_nothing(timer: Timer):
    node = Node()
    node.step(WorkPending(False))
    before = deep(node)
    assert node.step(TimerFired(timer)) == []
    assert deep(node) == before


def test_the_same_inputs_give_the_same_effects():
    """No clock, no randomness, no order of sets: determinism is what the simulator rests on."""

    def trace() -> tuple:
        node = busy()
        said = [repr(e) for m in samples(node) for e in node.step(Received(_sender(m), m))]
        return said, deep(node)

    assert trace() == trace()


def test_wants_changes_nothing():
    node = busy()
    before = deep(node)
    for message in samples(node):
        node.engine.wants(message)
    assert deep(node) == before
