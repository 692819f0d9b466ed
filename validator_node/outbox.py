"""The outbox: gathers a turn's messages and sends each validator one frame.

A frame is the canonical MessagePack array of its messages. It is split where it would exceed
`MAX_FRAME_BYTES`. Frames for a validator whose link is down wait in the link's bounded queue, and
what is lost there is said again: consensus repeats itself (STATUS), it never depends on a frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from msgspec import Meta

from consensus.messages import Message
from protocol.codec import decode, encode
from protocol.records.statement import Statement

MAX_FRAME_BYTES = 14 * 1024 * 1024
"""The longest NEW-VIEW of the largest set fits in (`consensus.feasibility`)."""
_SPLIT_BYTES = 1024 * 1024
MAX_FRAME_MESSAGES = 8192

LinkMessage = Message | Statement
"""What travels on a consensus link."""
Frame = Annotated[tuple[LinkMessage, ...], Meta(max_length=MAX_FRAME_MESSAGES)]


def decode_frame(data: bytes) -> tuple[LinkMessage, ...]:
    """Return a frame's messages; `DecodeError` if any of it is not canonical."""
    messages: tuple[LinkMessage, ...] = decode(Frame, data, limit_bytes=MAX_FRAME_BYTES)
    return messages


class Outbox:
    """Messages waiting for the end of the turn."""

    def __init__(self, size: int, me: int | None, send_frame: Callable[[int, bytes], Any]) -> None:
        self.begin_epoch(size, me)
        self._send_frame = send_frame
        self._waiting: dict[int, list[LinkMessage]] = {}
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
        self._waiting.setdefault(peer, []).append(message)

    def flush(self) -> None:
        """Hand over everything, one frame a peer where it fits."""
        waiting, self._waiting = self._waiting, {}
        encoded: list[LinkMessage] = []
        frame = b""
        for peer, messages in waiting.items():
            self.messages_sent += len(messages)
            if messages != encoded:  # mostly everybody gets the same
                encoded, frame = messages, encode(messages)
            fits = len(frame) <= _SPLIT_BYTES and len(messages) <= MAX_FRAME_MESSAGES
            if fits or len(messages) == 1:
                self._send_frame(peer, frame)
                continue
            for message in messages:
                self._send_frame(peer, encode([message]))
