"""Asking one peer for the checkpoints at epochs' edges, which prove who voted when."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from protocol.codec import Record, decode, encode
from protocol.records.checkpoint import CheckpointCertificate
from validator_node.network.network import Network
from validator_node.sync.records import (
    DEADLINE_S,
    HANDOVER_PROTOCOL,
    MAX_HANDOVER_BYTES,
    HandoverReply,
    HandoverRequest,
)

MAX_EPOCHS = 65_536
MAX_FILE_BYTES = 256 * 1024 * 1024


class Handovers(Record):
    """The hand-overs of the epochs from 0 on, as a file holds them."""

    handovers: Annotated[tuple[CheckpointCertificate, ...], Meta(max_length=MAX_EPOCHS)]


def read_handovers(data: bytes) -> tuple[CheckpointCertificate, ...]:
    """Return what a file holds; raises `DecodeError`. They are not proven yet."""
    return decode(Handovers, data, limit_bytes=MAX_FILE_BYTES).handovers


async def ask_handovers(network: Network, peer_id: str) -> tuple[CheckpointCertificate, ...]:
    """Return the hand-overs from epoch 0 on that a peer has, not proven yet.

    A peer that began with a snapshot may lack the first ones; then there are none. Raises
    `NetworkError` and `DecodeError`.
    """
    found: list[CheckpointCertificate] = []
    while len(found) < MAX_EPOCHS:
        data = await network.request(
            peer_id,
            HANDOVER_PROTOCOL,
            encode(HandoverRequest(first_epoch=len(found))),
            deadline_s=DEADLINE_S,
            max_reply_bytes=MAX_HANDOVER_BYTES,
        )
        reply = decode(HandoverReply, data, limit_bytes=MAX_HANDOVER_BYTES).handovers
        if not reply or reply[0].checkpoint.epoch != len(found):
            break
        found += reply
    return tuple(found[:MAX_EPOCHS])
