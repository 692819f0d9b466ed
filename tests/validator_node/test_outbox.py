from __future__ import annotations

import pytest

from consensus.messages import BatchBody, FetchBatch, Status, Vote
from protocol.codec import encode, sha256
from protocol.errors import DecodeError, TooLargeError
from protocol.records.batch import Batch, Header
from tests.support import World, make_challenge, make_verdict, replaced
from validator_node.outbox import (
    BULK_BYTES,
    MAX_FRAME_BYTES,
    MAX_FRAME_MESSAGES,
    LinkMessage,
    Outbox,
    decode_frame,
)

WORLD = World()
STATUS = Status(epoch=0, view=1, changing=False, height=5)
FETCH = FetchBatch(seq=3, digest=sha256(b"batch"))
VOTE = Vote(kind="commit", epoch=0, view=0, seq=1, digest=bytes(32), signer=1, signature=bytes(64))
VERDICT = make_verdict(sha256(b"submission"))
STATEMENT = WORLD.statement(0, VERDICT)


class Wire:
    """Where the frames go."""

    def __init__(self, size: int = 4, me: int | None = 1) -> None:
        self.frames: list[tuple[int, bytes]] = []
        self.urgent: list[bool] = []
        self.outbox = Outbox(size, me, self._send)

    def _send(self, peer: int, frame: bytes, urgent: bool) -> None:
        self.frames.append((peer, frame))
        self.urgent.append(urgent)

    def received(self, peer: int) -> list[LinkMessage]:
        return [
            message for to, frame in self.frames if to == peer for message in decode_frame(frame)
        ]


def test_a_turns_messages_leave_in_one_frame_a_peer() -> None:
    wire = Wire()
    wire.outbox.send(2, STATUS)
    wire.outbox.broadcast(VOTE)
    assert wire.frames == []
    wire.outbox.flush()
    assert sorted(peer for peer, _ in wire.frames) == [0, 2, 3]
    assert wire.received(0) == [VOTE]
    assert wire.received(2) == [STATUS, VOTE]
    assert wire.received(3) == [VOTE]
    assert wire.outbox.messages_sent == 4


def test_votes_are_urgent_and_what_is_long_is_not() -> None:
    wire = Wire()
    body = large(0)
    for message in (STATEMENT, VOTE, body, STATUS):
        wire.outbox.send(0, message)
    wire.outbox.flush()
    assert wire.urgent == [False, True]
    assert wire.received(0) == [STATEMENT, body, VOTE, STATUS]


def test_what_is_long_leaves_in_frames_that_hold_up_nobody() -> None:
    wire = Wire()
    said = [WORLD.statement(0, *(VERDICT for _ in range(200)), counter=n) for n in range(1, 101)]
    for statement in said:
        wire.outbox.send(0, statement)
    wire.outbox.flush()
    assert len(encode(said)) > 2 * BULK_BYTES
    assert all(len(frame) <= BULK_BYTES for _, frame in wire.frames)
    assert wire.received(0) == said


def test_nothing_is_sent_twice_or_to_oneself() -> None:
    wire = Wire()
    wire.outbox.broadcast(VOTE)
    wire.outbox.flush()
    wire.outbox.flush()
    assert len(wire.frames) == 3
    assert wire.received(1) == []


def test_who_has_no_vote_sends_to_everybody() -> None:
    wire = Wire(me=None)
    wire.outbox.broadcast(STATUS)
    wire.outbox.flush()
    assert [peer for peer, _ in wire.frames] == [0, 1, 2, 3]


def large(number: int) -> BatchBody:
    challenge = replaced(make_challenge("gamma"), params=bytes(16_000))
    actions = tuple(WORLD.change(sequence, challenge) for sequence in range(1, 16))
    batch = Batch(state_root=sha256(b"%d" % number), actions=actions)
    header = Header(epoch=0, seq=1, parent=bytes(32), body_root=batch.body_root())
    return BatchBody(header=header, batch=batch)


def test_a_turn_with_much_to_say_is_split() -> None:
    wire = Wire()
    bodies = [large(number) for number in range(64)]
    for body in bodies:
        wire.outbox.send(0, body)
    wire.outbox.flush()
    assert len(encode(bodies)) > MAX_FRAME_BYTES
    assert len(wire.frames) > 1
    assert all(len(frame) <= MAX_FRAME_BYTES for _, frame in wire.frames)
    assert wire.received(0) == bodies
    assert wire.outbox.messages_sent == 64


def test_many_small_messages_are_split_as_well() -> None:
    wire = Wire()
    for _ in range(MAX_FRAME_MESSAGES + 1):
        wire.outbox.send(0, STATUS)
    wire.outbox.flush()
    assert len(wire.received(0)) == MAX_FRAME_MESSAGES + 1


def test_a_frame_is_read_back() -> None:
    messages = (STATUS, FETCH, VOTE, STATEMENT)
    assert decode_frame(encode(messages)) == messages
    assert decode_frame(encode([])) == ()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode(STATUS),
        encode([STATUS]) + b"\0",
        encode([["unknown", 1]]),
        encode([STATUS, 5]),
        b"\xdc\x00\x01" + encode(STATUS),
        encode([STATUS] * (MAX_FRAME_MESSAGES + 1)),
    ],
    ids=["empty", "bare", "trailing", "tag", "number", "longer form", "too many"],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_frame(data)


def test_a_frame_is_bounded() -> None:
    with pytest.raises(TooLargeError):
        decode_frame(bytes(MAX_FRAME_BYTES + 1))


def test_a_new_epoch_has_its_own_members() -> None:
    wire = Wire(size=4, me=1)
    wire.outbox.begin_epoch(3, 0)
    wire.outbox.broadcast(STATUS)
    wire.outbox.flush()
    assert [peer for peer, _ in wire.frames] == [1, 2]
