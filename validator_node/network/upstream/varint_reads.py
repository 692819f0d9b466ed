"""A gossip RPC is read in large pieces, not its length byte by byte.

The stock reader takes the length prefix with one read a byte; each read passes two locks and, in
stock Yamux, sends a window update. Corrected: up to 64 KiB at a time into a buffer that stays with
the stream, which after negotiation has no other reader. An RPC once begun has to end: a peer that
sends a byte a minute would hold its piece of one for ever.
"""

from typing import Any, Final

import libp2p.pubsub.pubsub as pubsub_module
import trio
from libp2p.exceptions import ParseError
from libp2p.io.exceptions import IncompleteReadError, MessageTooLarge

from validator_node.network.limits import gate_of
from validator_node.network.upstream.patching import replace

_READ_BYTES: Final = 64 * 1024
_MAX_VARINT_BYTES: Final = 10


class SlowRpcError(ParseError):
    """A gossip RPC was begun and not finished in its time."""


def _length(buffer: bytearray) -> tuple[int, int] | None:
    """Return (value, bytes used) of the varint in front, or None if it is not all there."""
    value = 0
    for index in range(min(len(buffer), _MAX_VARINT_BYTES)):
        value |= (buffer[index] & 0x7F) << (7 * index)
        if not buffer[index] & 0x80:
            return value, index + 1
    if len(buffer) >= _MAX_VARINT_BYTES:
        raise ParseError("length prefix of more than 64 bits")
    return None


async def _fill(reader: Any, buffer: bytearray) -> None:
    data = await reader.read(_READ_BYTES)
    if not data:
        raise IncompleteReadError("stream ended inside a message", received_bytes=len(buffer))
    buffer.extend(data)


async def _message(reader: Any, buffer: bytearray, max_length: int) -> bytes:
    while (prefix := _length(buffer)) is None:
        await _fill(reader, buffer)
    size, used = prefix
    if size > max_length:
        raise MessageTooLarge(f"gossip RPC of {size} bytes, at most {max_length} are allowed")
    while len(buffer) < used + size:
        await _fill(reader, buffer)
    message = bytes(memoryview(buffer)[used : used + size])
    del buffer[: used + size]
    return message


def _read(_: Any) -> Any:
    async def read_varint_prefixed_bytes_limited(reader: Any, max_length: int) -> bytes:
        buffer: bytearray = reader.__dict__.setdefault("_read_ahead", bytearray())
        if not buffer:
            await _fill(reader, buffer)
        # Streams of the library have a connection, and that a swarm with our limits.
        swarm = getattr(getattr(reader, "muxed_conn", reader), "swarm", reader)
        with trio.move_on_after(gate_of(swarm).limits.frame_s):
            return await _message(reader, buffer, max_length)
        raise SlowRpcError(f"{len(buffer)} bytes of a gossip RPC, and no more in its time")

    return read_varint_prefixed_bytes_limited


def apply() -> None:
    """Read gossip RPCs through a buffer."""
    replace(__name__, pubsub_module, "read_varint_prefixed_bytes_limited", _read)
