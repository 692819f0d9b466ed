"""Bytes that nobody has read yet are bounded, for each connection and for all of them together.

A peer may fill the receive window of every stream it opens, 256 KiB each and more, and leave it
there; and one data frame may announce 16 MiB, which are read before any window is looked at.
Corrected: a frame beyond `Limits.yamux_frame_bytes` closes the connection unread; the buffers are
added up as bytes arrive, and who makes us hold too much loses the connection.
"""

from typing import Any

import trio
from libp2p.stream_muxer.yamux.yamux import Yamux

from validator_node.network.limits import SCAN_BYTES, gate_of, held_by
from validator_node.network.upstream.patching import replace


def _read_body(original: Any) -> Any:
    async def _read_data_body(self: Yamux, length: int) -> bytes:
        gate = gate_of(getattr(self, "swarm", self))
        if length > gate.limits.yamux_frame_bytes:
            gate.counters.count("reset", "yamux_frame")
            gate.scores.charge(str(self.peer_id), "frame_too_large")
            # The one error on which the reading loop closes the connection, wherever it is.
            raise trio.TooSlowError
        arrived = self.__dict__.get("_arrived_bytes", 0) + length
        if arrived >= SCAN_BYTES:
            arrived = 0
            victim = gate.note_buffered(self, held_by(self) + length)
            if victim is self:
                raise trio.TooSlowError
            if victim is not None and victim._nursery is not None:
                victim._nursery.start_soon(victim._cleanup_on_error)
        self.__dict__["_arrived_bytes"] = arrived
        data: bytes = await original(self, length)
        return data

    return _read_data_body


def _forget(original: Any) -> Any:
    async def start(self: Yamux) -> None:
        try:
            await original(self)
        finally:
            gate_of(getattr(self, "swarm", self)).drop_buffered(self)

    return start


def apply() -> None:
    """Bound Yamux data frames and what lies unread."""
    replace(__name__, Yamux, "_read_data_body", _read_body)
    replace(__name__, Yamux, "start", _forget)
