"""Corrections of py-libp2p 0.8.1, one a file, with its reason and a test that fails without it.

Rules: the version is pinned exactly, for these files touch its insides; the wire format never
changes; `apply_all()` runs before the first host is made and may run again. The order matters where
two corrections wrap one method: logging is taken out of the library's own source first, and the
stream limit stands in front of the containment.

What breaks in the stock library, what corrects it (a file here unless a folder is named), and the
test that shows the fault and its absence (`..._x` is upstream/test_upstream_x.py):

| fault | correction | test |
|---|---|---|
| one frame, handler or validator ends the process | contained_exceptions | ..._faults |
| plaintext accepted | `host.make_host`: Noise alone | ..._host |
| inbound slot never released | inbound_slots | ..._faults |
| one address takes all slots, half-open ones last | inbound_slots, `limits` | ..._budgets |
| any number of connections a peer, no bans | connection_limits, `scores` | ..._budgets |
| failed dial cached for 60 s, dial takes 250 ms | dial_cache, dial_delay | ..._limits |
| gossip queues of 32, unbounded in total | pubsub_queues | ..._limits, ..._gossip |
| sequence numbers repeat after a restart | sequence_numbers | ..._limits |
| names are resolved inside a dial, judged by nobody | dialled_names, `names` | test_names |
| auto-connector: 62 s to dial again | auto_connector, `connections` | ..._limits, test_restart |
| a host that is left alone leaks sockets | `host.run_host`, `network.open_network` | ..._host |
| SIGINT a traceback, SIGTERM unhandled | a signal task of the node | ..._host |
| Yamux writer blocked for 5 s errors the stream | yamux_flow_control, `links` | ..._host |
| 70 % of sends are window updates | yamux_flow_control | ..._speed |
| windows and 16 MiB frames fill memory unread | buffered_bytes, `limits` | ..._budgets |
| 10,000 streams; ended ones keep buffers | stream_limits, `limits` | ..._faults, ..._budgets |
| subscriptions unbounded (py-libp2p#1349) | subscription_limits | ..._gossip, test_gossip |
| gossip keeps times, copies and back-offs for ever | gossip_memory | ..._gossip |
| an RPC once begun never has to end | varint_reads | ..._gossip |
| PRUNE, IHAVE, IWANT of any size; PX dials anybody | `gossip_control` | test_gossip, test_router |
| subscribers in prune back-off hear of nothing | `router` | test_router |
| any GRAFT is taken, nobody in a mesh is kept | `router`, `mesh` | test_router, test_mesh |
| sequence numbers of any length are forwarded | `gossip_door` | test_gossip_door |
| messages delivered once a copy | duplicate_validation | ..._faults |
| gossip lost when connections overlap | pubsub_reconnect | ..._faults |
| dead peers noticed after 15 min | dead_sockets | ..._limits |
| two nodes on one port | exclusive_port | ..._limits |
| half a frame after a cancellation | whole_frames | ..._speed |
| a record verified on each RPC, eager logging | signed_records, eager_logging | ..._speed |
| the DHT's faults | kad_* | its own tests |
"""

from validator_node.network.upstream import (
    auto_connector,
    buffered_bytes,
    connection_limits,
    contained_exceptions,
    dead_sockets,
    dial_cache,
    dial_delay,
    dialled_names,
    duplicate_validation,
    eager_logging,
    exclusive_port,
    gossip_memory,
    inbound_slots,
    kad_inbound,
    kad_messages,
    kad_peers,
    kad_providers,
    kad_signed_records,
    pubsub_queues,
    pubsub_reconnect,
    sequence_numbers,
    signed_records,
    stream_limits,
    subscription_limits,
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
    dialled_names,
    auto_connector,
    exclusive_port,
    dead_sockets,
    inbound_slots,
    connection_limits,
    gossip_memory,
    subscription_limits,
    pubsub_queues,
    pubsub_reconnect,
    sequence_numbers,
    duplicate_validation,
    signed_records,
    varint_reads,
    whole_frames,
    yamux_flow_control,
    buffered_bytes,
    kad_inbound,
    kad_messages,
    kad_peers,
    kad_providers,
    kad_signed_records,
)


def apply_all() -> None:
    """Apply every correction once."""
    for correction in CORRECTIONS:
        correction.apply()


__all__ = ["CORRECTIONS", "apply_all"]
