"""The routing table holds peers that answer, a bounded number of them, and never waits for one.

The stock table holds up to 5,120 peers, sorted anew for each request; takes whoever opened a DHT
stream for a server, though clients open them too, and then asks clients in vain; and when a bucket
is full it pings its oldest peer, under a lock and without a deadline, while the newcomer's request
waits. Corrected: at most `MAX_TABLE` peers, those without a connection make room; a peer that told
us its protocols and does not speak the DHT's is left out; the oldest stays if it is connected.
"""

from typing import Any, Final

from libp2p.kad_dht.kad_dht import KadDHT
from libp2p.kad_dht.routing_table import KBucket, RoutingTable

from validator_node.network.counters import attached
from validator_node.network.upstream.patching import replace

MAX_TABLE: Final = 512


def _bounded(original: Any) -> Any:
    async def add_peer(
        self: RoutingTable, peer_obj: Any, *, skip_server_mode_check: bool = False
    ) -> bool:
        del skip_server_mode_check
        peer_id = getattr(peer_obj, "peer_id", peer_obj)
        if self.size() >= MAX_TABLE and not self.peer_in_table(peer_id):
            connected = set(self.host.get_connected_peers())
            for known in self.get_peer_ids():
                if known not in connected:
                    self.remove_peer(known)
            if self.size() >= MAX_TABLE:
                attached(self.host).count("dropped", "dht_routing_table")
                return False
        return bool(await original(self, peer_obj))

    return add_peer


def _judged(_: Any) -> Any:
    async def add_peer(self: KadDHT, peer_id: Any, *, skip_server_mode_check: bool = False) -> bool:
        del skip_server_mode_check
        return bool(await self.routing_table.add_peer(peer_id))

    return add_peer


def _connected(_: Any) -> Any:
    async def _ping_peer(self: KBucket, peer_id: Any) -> bool:
        return peer_id in self.host.get_connected_peers()

    return _ping_peer


def apply() -> None:
    """Bound the routing table and keep clients and waiting out of it."""
    replace(__name__, RoutingTable, "add_peer", _bounded)
    replace(__name__, KadDHT, "add_peer", _judged)
    replace(__name__, KBucket, "_ping_peer", _connected)
