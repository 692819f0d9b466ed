"""Who is connected, and the loop that keeps the configured peers connected.

Rules: a lost bootstrap peer is dialled at once, then with a back-off from 0.2 s doubling to 10 s;
each configured address is tried by itself, because the library dials only one address a transport
and a peer's own record would displace ours. Names are looked up and judged here (`names`). A banned
peer is disconnected and not dialled. Waiting is by event, never by polling.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import multiaddr
import trio
from libp2p.abc import INotifee
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo

from validator_node.network.deadline import shielded
from validator_node.network.errors import InvalidAddressError
from validator_node.network.host import CLOSE_S, close_connections, parse_address
from validator_node.network.limits import Gate
from validator_node.network.names import Names

log = logging.getLogger(__name__)

FIRST_RETRY_S: Final = 0.2
MAX_RETRY_S: Final = 10.0
DIAL_S: Final = 10.0


class Connections(INotifee):
    """The live connections of one host, and its bootstrap peers."""

    def __init__(self, host: Any, gate: Gate, names: Names) -> None:
        self._host = host
        self._names = names
        self._configured: set[tuple[str, str]] = set()
        """(peer id, address) that the operator named: their names may lead anywhere."""
        self._swarm = host.get_network()
        self._own_id = str(host.get_id())
        self._gate = gate
        self._counters = gate.counters
        self._nursery: trio.Nursery | None = None
        self._changed = trio.Event()
        self._connected: set[str] = set()
        self._bootstrap: dict[str, list[multiaddr.Multiaddr]] = {}
        self._listeners: list[Callable[[str], None]] = []
        self._swarm.register_notifee(self)
        gate.scores.on_ban(self._on_ban)

    def start(self, nursery: trio.Nursery) -> None:
        """Begin to dial the bootstrap peers, in tasks of `nursery`."""
        self._nursery = nursery
        for peer_id in self._bootstrap:
            nursery.start_soon(self._keep, peer_id)

    def stop(self) -> None:
        """Start no more tasks, here or in a listener: the nursery is about to close."""
        self._nursery = None
        self._listeners.clear()

    def peers(self) -> frozenset[str]:
        """Return the ids of the peers with an open connection."""
        return frozenset(self._connected)

    def is_connected(self, peer_id: str) -> bool:
        """Tell whether there is an open connection to the peer."""
        return peer_id in self._connected

    def subscribe(self, listener: Callable[[str], None]) -> None:
        """Call `listener(peer_id)` for each peer connected now and whenever one connects."""
        self._listeners.append(listener)
        for peer_id in sorted(self._connected):
            listener(peer_id)

    async def wait(self, holds: Callable[[], bool]) -> None:
        """Wait until `holds()` after some change of the connected peers."""
        while not holds():
            await self._changed.wait()

    async def wait_connected(self, count: int) -> None:
        """Wait until at least `count` peers are connected."""
        await self.wait(lambda: len(self._connected) >= count)

    async def wait_lost(self, peer_id: str) -> None:
        """Wait until there is no connection to the peer."""
        await self.wait(lambda: peer_id not in self._connected)

    def add_bootstrap(self, text: str) -> None:
        """Keep a peer connected that the operator named; a second address is an alternative.

        Raises:
            InvalidAddressError: the multiaddr is malformed or has no /p2p/ part.
        """
        peer_id, address = parse_address(text)
        self._configured.add((peer_id, str(address)))
        self._add(peer_id, address)

    def _add(self, peer_id: str, address: multiaddr.Multiaddr) -> None:
        if peer_id == self._own_id:
            return
        known = self._bootstrap.setdefault(peer_id, [])
        if address not in known:
            known.append(address)
        if len(known) == 1 and self._nursery is not None:
            self._nursery.start_soon(self._keep, peer_id)

    def keep(self, peer_id: str, texts: Sequence[str]) -> None:
        """Keep a peer connected under these addresses alone, whatever was known before.

        The one task that keeps it connected goes on with the new ones.

        Raises:
            InvalidAddressError: one is malformed or names another peer; nothing was changed.
        """
        if not texts:
            raise InvalidAddressError(f"no address to keep {peer_id} connected under")
        parsed = [parse_address(text) for text in texts]
        for text, (named, _) in zip(texts, parsed, strict=True):
            if named != peer_id:
                raise InvalidAddressError(f"{text!r} is an address of another peer than {peer_id}")
        known = self._bootstrap.get(peer_id)
        if known is None:
            for _, address in parsed:
                self._add(peer_id, address)
        else:
            known[:] = dict.fromkeys(address for _, address in parsed)

    def remove_bootstrap(self, peer_id: str) -> None:
        """Stop keeping a peer connected; an open connection stays."""
        if self._bootstrap.pop(peer_id, None) is not None:
            self._notify_change()

    async def disconnect(self, peer_id: str) -> None:
        """Close every connection to the peer; a bootstrap peer will be dialled again."""
        # Not Swarm.close_peer: it also forgets, unclosed, whatever connected in the meantime.
        identity = ID.from_string(peer_id)
        await close_connections(list(self._swarm.get_connections(identity)))

    def _on_ban(self, peer_id: str, reason: str) -> None:
        del reason
        if self._nursery is not None:
            self._nursery.start_soon(self._cut_off, peer_id)

    async def _cut_off(self, peer_id: str) -> None:
        with shielded(CLOSE_S):  # half closed, a connection leaves its socket open
            await self.disconnect(peer_id)

    async def _keep(self, peer_id: str) -> None:
        delay = FIRST_RETRY_S
        while peer_id in self._bootstrap:
            if peer_id in self._connected or await self._dial(peer_id):
                delay = FIRST_RETRY_S
                await self.wait(
                    lambda: peer_id not in self._connected or peer_id not in self._bootstrap
                )
                continue
            with trio.move_on_after(delay):
                await self.wait(
                    lambda: peer_id in self._connected or peer_id not in self._bootstrap
                )
            delay = min(2 * delay, MAX_RETRY_S)

    async def _dial(self, peer_id: str) -> bool:
        if self._gate.scores.is_banned(peer_id):
            return False
        identity = ID.from_string(peer_id)
        for address in await self._addresses(peer_id):
            self._swarm.peerstore.clear_addrs(identity)
            self._swarm.unblock_peer(identity)
            try:
                with trio.fail_after(DIAL_S):
                    await self._host.connect(PeerInfo(identity, [address]))
            except Exception as error:  # the library raises many kinds; all mean "not now"
                self._counters.count("errors", "dial")
                log.debug("dialling %s at %s failed: %r", peer_id, address, error)
            if self._open(identity):
                await self.wait(lambda: peer_id in self._connected)
                return True
        return False

    async def _addresses(self, peer_id: str) -> list[multiaddr.Multiaddr]:
        found: dict[multiaddr.Multiaddr, None] = {}
        for address in list(self._bootstrap.get(peer_id, ())):
            configured = (peer_id, str(address)) in self._configured
            numbers = await self._names.addresses(address, configured=configured)
            found.update(dict.fromkeys(numbers))
        return list(found)

    def _open(self, identity: ID) -> bool:
        return any(not c.is_closed for c in self._swarm.get_connections(identity))

    def _notify_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def connected(self, network: Any, conn: Any) -> None:
        """Note a new connection (called by the library)."""
        del network
        peer_id = str(conn.muxed_conn.peer_id)
        if peer_id in self._connected or not self._open(conn.muxed_conn.peer_id):
            return
        self._connected.add(peer_id)
        self._notify_change()
        for listener in self._listeners:
            listener(peer_id)

    async def disconnected(self, network: Any, conn: Any) -> None:
        """Note a lost connection (called by the library)."""
        del network
        if self._open(conn.muxed_conn.peer_id):
            return
        peer_id = str(conn.muxed_conn.peer_id)
        self._connected.discard(peer_id)
        self._gate.forget(peer_id)
        self._notify_change()

    async def opened_stream(self, network: Any, stream: Any) -> None:
        """Ignore (called by the library)."""

    async def closed_stream(self, network: Any, stream: Any) -> None:
        """Ignore (called by the library)."""

    async def listen(self, network: Any, multiaddr: Any) -> None:
        """Ignore (called by the library)."""

    async def listen_close(self, network: Any, multiaddr: Any) -> None:
        """Ignore (called by the library)."""
