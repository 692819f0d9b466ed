"""A peer's signed record is verified once, not with every gossip RPC.

Each RPC carries the sender's signed record; the stock code parses it and verifies its signature
every time (twice when the RPC has control messages), and builds our own from scratch. A record
older than the stored one, after a clock went back, makes it ignore the whole RPC.

Corrected: bytes equal to the last verified ones are accepted for ten minutes without verifying;
our own marshalled record is rebuilt at most every 5 s; an older record is not stored, but the
messages that came with it count.
"""

import time
from typing import Any, Final

import libp2p.pubsub.gossipsub as gossipsub_module
import libp2p.pubsub.pubsub as pubsub_module
from libp2p.peer.envelope import consume_envelope
from libp2p.peer.peerstore import _peer_record_signer_matches

from validator_node.network.upstream.patching import replace

VERIFIED_S: Final = 600.0
OWN_RECORD_S: Final = 5.0
_RECORD_TTL_S: Final = 7_200
_MAX_PEERS: Final = 2_048


def _consume(_: Any) -> Any:
    def maybe_consume_signed_record(msg: Any, host: Any, peer_id: Any) -> bool:
        if not msg.HasField("senderRecord"):
            return True
        verified = host.__dict__.setdefault("_verified_records", {})
        now = time.monotonic()
        known = verified.get(peer_id)
        if known is not None and known[0] == msg.senderRecord and now < known[1]:
            return True
        try:
            envelope, record = consume_envelope(msg.senderRecord, "libp2p-peer-record")
            if record.peer_id != peer_id or not _peer_record_signer_matches(envelope):
                return False
            # False means the record is older than the stored one: the messages are still good.
            host.get_peerstore().consume_peer_record(envelope, _RECORD_TTL_S)
        except Exception:  # whatever protobuf, multiaddr or the key decoder raise on garbage
            return False
        if len(verified) >= _MAX_PEERS:
            verified.clear()
        verified[peer_id] = (msg.senderRecord, now + VERIFIED_S)
        return True

    return maybe_consume_signed_record


def _own_record(original: Any) -> Any:
    def env_to_send_in_rpc(host: Any) -> tuple[bytes, bool]:
        now = time.monotonic()
        cached = host.__dict__.get("_own_marshalled_record")
        if cached is not None and now < cached[1]:
            return cached[0], False
        marshalled, new = original(host)
        host.__dict__["_own_marshalled_record"] = (marshalled, now + OWN_RECORD_S)
        return marshalled, new

    return env_to_send_in_rpc


def apply() -> None:
    """Remember verified records and our own marshalled one."""
    for module in (pubsub_module, gossipsub_module):
        replace(__name__, module, "maybe_consume_signed_record", _consume)
        replace(__name__, module, "env_to_send_in_RPC", _own_record)
