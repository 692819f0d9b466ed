"""An inbound slot must be free again when its connection closes.

The swarm takes a slot for each inbound connection and holds it, with its task, until the whole
swarm ends: after 250 inbound connections in a process lifetime every further one is refused.
Corrected: the handler waits for its own connection to close.
"""

import logging
from typing import Any

from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.swarm import Swarm

from validator_node.network.counters import attached
from validator_node.network.upstream.patching import replace

log = logging.getLogger(__name__)


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
        raw = RawConnection(read_write_closer, False)
        try:
            muxed: Any = await self.upgrade_inbound_raw_conn(raw, maddr)
            await muxed.event_closed.wait()
        except Exception as error:
            attached(self).count("refused", "inbound_connection")
            log.debug("inbound connection from %s failed: %r", remote, error)
        # Returning lets the listener close the socket, whichever way we came here.

    return _do_handle_inbound_connection


def apply() -> None:
    """Hold an inbound slot only as long as its connection lives."""
    replace(__name__, Swarm, "_do_handle_inbound_connection", _handler)
