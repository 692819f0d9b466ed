"""A banned peer has no connection, no peer has more than a few, and each inbound one has a place.

The swarm knows no bans of peers, and trims a peer's surplus connections only when they are 20 s
old: until then one peer may open as many as there are slots. Corrected: a connection is refused,
whoever dialled it, as soon as the handshake has told whose it is; and one that came from outside
when `places` has none for its peer.
"""

from typing import Any, Final

from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm

from validator_node.network.deadline import shielded
from validator_node.network.limits import gate_of
from validator_node.network.upstream.inbound_slots import ARRIVAL
from validator_node.network.upstream.patching import replace

CLOSE_S: Final = 2.0


def _add(original: Any) -> Any:
    async def add_conn(self: Swarm, muxed_conn: Any, direction: str = "unknown") -> Any:
        gate = gate_of(self)
        peer_id = muxed_conn.peer_id
        open_now = sum(not c.is_closed for c in self.connections.get(peer_id, ()))
        reason = gate.why_refused(str(peer_id), open_now)
        if reason is not None:
            gate.counters.count("refused", reason)
        elif direction == "inbound":
            arrival = ARRIVAL.get()
            if arrival is not None and not arrival.established(str(peer_id)):
                reason = "inbound_connections"
        if reason is not None:
            with shielded(CLOSE_S):
                await muxed_conn.close()
            raise SwarmException(f"connection to {peer_id} refused: {reason}")
        return await original(self, muxed_conn, direction=direction)

    return add_conn


def apply() -> None:
    """Refuse connections of banned peers, and those beyond a peer's share."""
    replace(__name__, Swarm, "add_conn", _add)
