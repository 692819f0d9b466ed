"""An inbound slot must be free again when its connection closes, and strangers share the slots.

The swarm takes a slot for each inbound connection and holds it, with its task, until the whole
swarm ends: after 250 inbound connections in a process lifetime every further one is refused. One
address may take them all, and connections that never finish the handshake count like any other.
Corrected: the handler waits for its own connection to close; `places` decides before the handshake
whether the address may have another one, and after it (in `connection_limits`) whether there is a
place for the peer. Whoever must make room is cut off here.
"""

import contextlib
import logging
from contextvars import ContextVar
from typing import Any, Final

import trio
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.swarm import Swarm

from validator_node.network.counters import attached
from validator_node.network.deadline import shielded
from validator_node.network.limits import gate_of
from validator_node.network.places import Arrival
from validator_node.network.upstream.patching import replace

log = logging.getLogger(__name__)

CLOSE_S: Final = 2.0
ARRIVAL: ContextVar[Arrival | None] = ContextVar("arrival", default=None)
"""The arrival whose handshake runs in this task. Tasks started from it inherit it, so it means
something for inbound connections alone."""


def _ip_of(read_write_closer: Any) -> str:
    """Return the remote address; the library knows it for IPv4 only."""
    try:
        return str(read_write_closer.stream.socket.getpeername()[0])
    except (AttributeError, OSError):  # gone already, or no socket
        return ""


async def _serve(
    swarm: Swarm, arrival: Arrival, scope: trio.CancelScope, read_write_closer: Any, maddr: Any
) -> None:
    raw = RawConnection(read_write_closer, False)
    muxed: Any = None
    try:
        with scope:
            ARRIVAL.set(arrival)
            muxed = await swarm.upgrade_inbound_raw_conn(raw, maddr)
            await muxed.event_closed.wait()
    except Exception as error:
        attached(swarm).count("refused", "inbound_connection")
        log.debug("inbound connection of %s failed: %r", arrival.group, error)
    if scope.cancelled_caught and muxed is not None:
        with shielded(CLOSE_S), contextlib.suppress(Exception):  # it is gone either way
            await muxed.close()
    # Returning lets the listener close the socket, whichever way we came here.


def _handler(_: Any) -> Any:
    async def _do_handle_inbound_connection(
        self: Swarm, read_write_closer: Any, maddr: Any, failure_event: Any
    ) -> None:
        del failure_event
        remote = self._build_remote_multiaddr(read_write_closer)
        if remote is not None and not await self.connection_gate.is_allowed(remote):
            attached(self).count("refused", "connection_gate")
            await read_write_closer.close()
            return
        scope = trio.CancelScope()
        arrival = gate_of(self).places.arrive(_ip_of(read_write_closer), scope.cancel)
        if arrival is None:
            await read_write_closer.close()
            return
        try:
            await _serve(self, arrival, scope, read_write_closer, maddr)
        finally:
            arrival.end()

    return _do_handle_inbound_connection


def apply() -> None:
    """Hold an inbound slot only as long as its connection lives, and share the slots out."""
    replace(__name__, Swarm, "_do_handle_inbound_connection", _handler)
