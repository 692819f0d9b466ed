"""A DHT message is bounded in bytes, in time and in the peers it names.

The stock reader takes 4 MiB a message, 256 of which are a gigabyte, waits for the rest of one for
ever, and stores every peer and address named in it: one answer may name 100,000. Corrected: at most
`MAX_MESSAGE_BYTES` in `MESSAGE_S`; of longer lists the first `MAX_PEERS` peers with the first
`MAX_ADDRESSES` addresses each remain. A peer at a public address may not send us to loopback,
private or link-local ones: we would dial them on its word.
"""

import ipaddress
from typing import Any, Final

import libp2p.kad_dht.kad_dht as kad_module
import libp2p.kad_dht.peer_routing as routing_module
import libp2p.kad_dht.provider_store as provider_module
import libp2p.kad_dht.value_store as value_module
import multiaddr
import trio
from google.protobuf.message import DecodeError
from libp2p.io.exceptions import IncompleteReadError
from libp2p.kad_dht.pb.kademlia_pb2 import Message

from validator_node.network.upstream.patching import replace

MAX_MESSAGE_BYTES: Final = 262_144 + 65_536
"""A value of 256 KiB, and the peers named beside it."""
MESSAGE_S: Final = 15.0
MAX_PEERS: Final = 20
MAX_ADDRESSES: Final = 16
MAX_ADDRESS_BYTES: Final = 256


def _reader(original: Any) -> Any:
    async def read_varint_prefixed_bytes_limited(reader: Any, max_length: int) -> bytes:
        with trio.move_on_after(MESSAGE_S):
            data: bytes = await original(reader, min(max_length, MAX_MESSAGE_BYTES))
            return trimmed(data, from_public=_is_public(reader))
        raise IncompleteReadError("no whole DHT message in time", received_bytes=1)

    return read_varint_prefixed_bytes_limited


def trimmed(data: bytes, *, from_public: bool) -> bytes:
    """Return a message without the peers and addresses that are too many or not to be dialled."""
    message = Message()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return data  # the library's own handling of garbage resets the stream
    changed = False
    for peers in (message.closerPeers, message.providerPeers):
        if len(peers) > MAX_PEERS:
            del peers[MAX_PEERS:]
            changed = True
        for peer in peers:
            kept = [item for item in peer.addrs if _is_wanted(item, from_public)][:MAX_ADDRESSES]
            if len(kept) != len(peer.addrs):
                del peer.addrs[:]
                peer.addrs.extend(kept)
                changed = True
    return message.SerializeToString() if changed else data


def _is_wanted(address: bytes, from_public: bool) -> bool:
    if len(address) > MAX_ADDRESS_BYTES:
        return False
    try:
        ip = _ip_of(multiaddr.Multiaddr(address))
    except Exception:  # the parser raises many unrelated kinds
        return False
    return ip is None or not from_public or ip.is_global


def _ip_of(address: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address' first part if it is an IP address."""
    kind, _, rest = str(address).lstrip("/").partition("/")
    return ipaddress.ip_address(rest.split("/")[0]) if kind in ("ip4", "ip6") else None


def _is_public(reader: Any) -> bool:
    try:
        remote = reader.get_remote_address()
        return remote is not None and ipaddress.ip_address(remote[0]).is_global
    except (AttributeError, ValueError, OSError):
        return False


def apply() -> None:
    """Bound what is read of a DHT message."""
    for module in (kad_module, routing_module, provider_module, value_module):
        replace(__name__, module, "read_varint_prefixed_bytes_limited", _reader)
