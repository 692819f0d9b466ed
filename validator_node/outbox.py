"""The outbox: gathers a turn's messages and sends each validator one frame, or two.

A frame is the canonical MessagePack array of its messages. Votes, proposals and whatever else moves
the agreement on are *urgent*: on the link their frame overtakes statements and bodies of batches,
which are long, and of which one more or less delays nobody. A frame is split where it would be
longer than `URGENT_BYTES` or `BULK_BYTES`, so that no long one holds up an urgent one. Frames for a
validator whose link is down wait in the link's bounded queue, and what is lost there is said again:
consensus repeats itself (STATUS), it never depends on a frame.
"""

from __future__ import annotations

from typing import Annotated, Protocol

from msgspec import Meta

from consensus.messages import BatchBody, DecidedSlot, Message
from protocol.codec import decode, encode
from protocol.records.statement import Statement

MAX_FRAME_BYTES = 14 * 1024 * 1024
"""The longest NEW-VIEW of the largest set fits in (`consensus.feasibility`)."""
URGENT_BYTES = 1024 * 1024
BULK_BYTES = 256 * 1024
MAX_FRAME_MESSAGES = 8192

LinkMessage = Message | Statement
"""What travels on a consensus link."""
_BULK = (Statement, DecidedSlot, BatchBody)
Frame = Annotated[tuple[LinkMessage, ...], Meta(max_length=MAX_FRAME_MESSAGES)]


def decode_frame(data: bytes) -> tuple[LinkMessage, ...]:
    """Return a frame's messages; `DecodeError` if any of it is not canonical."""
    messages: tuple[LinkMessage, ...] = decode(Frame, data, limit_bytes=MAX_FRAME_BYTES)
    return messages


class SendFrame(Protocol):
    """What takes the frames."""

    def __call__(self, peer: int, frame: bytes, urgent: bool, /) -> object:
        """Send `frame` to validator `peer`."""


class Outbox:
    """Messages waiting for the end of the turn."""

    def __init__(self, size: int, me: int | None, send_frame: SendFrame) -> None:
        self.begin_epoch(size, me)
        self._send_frame = send_frame
        self._waiting: dict[tuple[int, bool], list[LinkMessage]] = {}
        self.messages_sent = 0

    def begin_epoch(self, size: int, me: int | None) -> None:
        """Address the validators of a new epoch's set."""
        self._others = [index for index in range(size) if index != me]

    def broadcast(self, message: LinkMessage) -> None:
        """Send to every other validator at the end of the turn."""
        for peer in self._others:
            self.send(peer, message)

    def send(self, peer: int, message: LinkMessage) -> None:
        """Send to one validator at the end of the turn."""
        urgent = not isinstance(message, _BULK)
        self._waiting.setdefault((peer, urgent), []).append(message)

    def flush(self) -> None:
        """Hand over everything, in as few frames a peer as fit."""
        waiting, self._waiting = self._waiting, {}
        known: dict[bool, tuple[list[LinkMessage], list[bytes]]] = {}
        for (peer, urgent), messages in waiting.items():
            self.messages_sent += len(messages)
            if urgent not in known or known[urgent][0] != messages:  # mostly all get the same
                known[urgent] = messages, _frames(messages, urgent)
            for frame in known[urgent][1]:
                self._send_frame(peer, frame, urgent)


def _frames(messages: list[LinkMessage], urgent: bool) -> list[bytes]:
    """Return the frames that hold `messages`; a message that is too long has one of its own."""
    limit_bytes = URGENT_BYTES if urgent else BULK_BYTES
    if len(messages) <= MAX_FRAME_MESSAGES:
        frame = encode(messages)
        if len(frame) <= limit_bytes or len(messages) == 1:
            return [frame]
    half = len(messages) // 2
    return _frames(messages[:half], urgent) + _frames(messages[half:], urgent)
