"""An older signed peer record does not silence its peer.

A peer's record carries a sequence number from its clock. After the clock went back, the stock DHT
resets every stream of that peer and ignores its answers until the clock has caught up, and a third
peer's record that is older than ours hides that peer. Corrected, as for gossip: an older record is
not stored, but what came with it counts; a record that was verified is not verified again with the
next message.
"""

import time
from typing import Any, Final

import libp2p.kad_dht.kad_dht as kad_module
import libp2p.kad_dht.peer_routing as routing_module
import libp2p.kad_dht.provider_store as provider_module
import libp2p.kad_dht.value_store as value_module
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.peer.envelope import consume_envelope
from libp2p.peer.peerstore import _peer_record_signer_matches

from validator_node.network.upstream.patching import replace

_DOMAIN: Final = "libp2p-peer-record"
_TTL_S: Final = 7_200
VERIFIED_S: Final = 600.0
_MAX_VERIFIED: Final = 2_048


def _consume(_: Any) -> Any:
    def maybe_consume_signed_record(msg: Any, host: Any, peer_id: Any = None) -> bool:
        name = "senderRecord" if isinstance(msg, Message) else "signedRecord"
        if not msg.HasField(name):
            return True
        data = getattr(msg, name)
        wanted = msg.id if name == "signedRecord" else peer_id.to_bytes()
        verified: dict[bytes, tuple[bytes, float]] = host.__dict__.setdefault(
            "_verified_kad_records", {}
        )
        known, until = verified.get(wanted, (b"", 0.0))
        if known == data and time.monotonic() < until:
            return True
        try:
            envelope, record = consume_envelope(data, _DOMAIN)
            if record.peer_id.to_bytes() != wanted or not _peer_record_signer_matches(envelope):
                return False
            # False would mean that a newer one is stored: no reason to refuse the rest.
            host.get_peerstore().consume_peer_record(envelope, _TTL_S)
        except Exception:  # whatever protobuf, multiaddr or the key decoder raise on garbage
            return False
        if len(verified) >= _MAX_VERIFIED:
            verified.clear()
        verified[wanted] = data, time.monotonic() + VERIFIED_S
        return True

    return maybe_consume_signed_record


def apply() -> None:
    """Judge signed records in DHT messages by their signature alone."""
    for module in (kad_module, routing_module, provider_module, value_module):
        replace(__name__, module, "maybe_consume_signed_record", _consume)
