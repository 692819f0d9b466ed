"""Corrections of py-libp2p 0.8.1, one a file, with its reason and a test that fails without it.

Rules: the version is pinned exactly, for these files touch its insides; the wire format never
changes; `apply_all()` runs before the first host is made and may run again. The order matters where
two corrections wrap one method: logging is taken out of the library's own source first, and the
stream limit stands in front of the containment.
"""

from validator_node.network.upstream import (
    auto_connector,
    contained_exceptions,
    dead_sockets,
    dial_cache,
    dial_delay,
    duplicate_validation,
    eager_logging,
    exclusive_port,
    inbound_slots,
    pubsub_queues,
    pubsub_reconnect,
    sequence_numbers,
    signed_records,
    stream_limits,
    varint_reads,
    whole_frames,
    yamux_flow_control,
)

CORRECTIONS = (
    eager_logging,
    contained_exceptions,
    stream_limits,
    dial_cache,
    dial_delay,
    auto_connector,
    exclusive_port,
    dead_sockets,
    inbound_slots,
    pubsub_queues,
    pubsub_reconnect,
    sequence_numbers,
    duplicate_validation,
    signed_records,
    varint_reads,
    whole_frames,
    yamux_flow_control,
)


def apply_all() -> None:
    """Apply every correction once."""
    for correction in CORRECTIONS:
        correction.apply()


__all__ = ["CORRECTIONS", "apply_all"]
