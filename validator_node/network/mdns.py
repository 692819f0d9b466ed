"""Peers on the local network, by multicast DNS (optional).

py-libp2p has a finder of its own; it is not used, because it announces under the service name of
every libp2p application, listens on all interfaces, feeds the peer store from another thread
without bound and tells all hosts of a process through one global list.

Rules: a service type for each network, so that others are never found; the threads of `zeroconf`
only hand over what they saw, at most `PENDING` at a time; at most `MAX_LOCAL` peers are
remembered, the first ones found; what a peer announces here is an address to try, nothing more.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import trio
import zeroconf

from validator_node.network.counters import Counters
from validator_node.network.deadline import shielded
from validator_node.network.errors import InvalidAddressError
from validator_node.network.host import parse_address

log = logging.getLogger(__name__)

MAX_LOCAL: Final = 16
MAX_ADDRESSES: Final = 8
PENDING: Final = 64
LOOKUP_MS: Final = 2_000
CLOSE_S: Final = 5.0


class LocalPeers(zeroconf.ServiceListener):
    """Announces this node on the local network and finds others of the same network id."""

    def __init__(
        self,
        network_id: bytes,
        peer_id: str,
        addresses: Callable[[], Sequence[str]],
        counters: Counters,
        *,
        interfaces: Sequence[str] | None = None,
    ) -> None:
        """Begin with nothing found.

        Args:
            network_id: whose nodes are looked for.
            peer_id: ours.
            addresses: gives our multiaddrs with peer id, asked once when it starts.
            counters: receive what is refused or dropped.
            interfaces: IP addresses of the interfaces to use; None for all.
        """
        # At most 15 characters, says RFC 6335.
        self._type = f"_vn-{network_id.hex()[:12]}._udp.local."
        self._peer_id = peer_id
        self._addresses = addresses
        self._counters = counters
        self._interfaces = interfaces
        self._found: dict[str, tuple[str, ...]] = {}
        self._on_change: Callable[[], None] = lambda: None
        self._token: trio.lowlevel.TrioToken | None = None
        self._pending = threading.Semaphore(PENDING)

    def found(self) -> dict[str, tuple[str, ...]]:
        """Return the multiaddrs of the peers on the local network, by peer id."""
        return dict(self._found)

    async def run(self, on_change: Callable[[], None]) -> None:
        """Announce and look until cancelled; `on_change()` whenever `found()` has changed.

        Where the machine has no multicast it says so in the log and returns: a node runs without.
        """
        self._on_change = on_change
        self._token = trio.lowlevel.current_trio_token()
        try:
            running = await trio.to_thread.run_sync(self._start)
        except (OSError, zeroconf.Error) as error:
            self._counters.count("errors", "mdns")
            log.warning("no multicast DNS on this machine: %s; set mdns = false", error)
            return
        try:
            await trio.sleep_forever()
        finally:
            with shielded(CLOSE_S):
                await trio.to_thread.run_sync(running.close)

    def _start(self) -> zeroconf.Zeroconf:
        chosen = self._interfaces or zeroconf.InterfaceChoice.All
        running = zeroconf.Zeroconf(interfaces=chosen)
        try:
            running.add_service_listener(self._type, self)
            addresses = list(self._addresses())[:MAX_ADDRESSES]
            running.register_service(
                zeroconf.ServiceInfo(
                    self._type,
                    f"{self._peer_id}.{self._type}",
                    port=1,  # port and host stand in the multiaddrs; the form asks for some
                    parsed_addresses=[self._interfaces[0] if self._interfaces else "127.0.0.1"],
                    properties={f"a{i}": text for i, text in enumerate(addresses)},
                    server=f"{self._peer_id}.local.",
                )
            )
        except BaseException:
            running.close()
            raise
        return running

    # In threads of zeroconf

    def add_service(self, zc: zeroconf.Zeroconf, type_: str, name: str) -> None:
        """Look up what a peer announces (called by the library)."""
        info = zc.get_service_info(type_, name, timeout=LOOKUP_MS)
        if info is not None:
            values = [value for value in info.properties.values() if value is not None]
            self._hand_over(name, tuple(value.decode("utf-8", "replace") for value in values))

    def update_service(self, zc: zeroconf.Zeroconf, type_: str, name: str) -> None:
        """Look it up again (called by the library)."""
        self.add_service(zc, type_, name)

    def remove_service(self, zc: zeroconf.Zeroconf, type_: str, name: str) -> None:
        """Forget who has left (called by the library)."""
        del zc, type_
        self._hand_over(name, ())

    def _hand_over(self, name: str, texts: tuple[str, ...]) -> None:
        assert self._token is not None
        if not self._pending.acquire(blocking=False):
            self._counters.count("dropped", "mdns_pending")
            return  # it announces itself again
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._note, name, texts)

    # In trio

    def _note(self, name: str, texts: tuple[str, ...]) -> None:
        self._pending.release()
        peer_id = name.partition(".")[0]
        if peer_id == self._peer_id:
            return
        try:
            named = {parse_address(text)[0] for text in texts[:MAX_ADDRESSES]}
        except InvalidAddressError as error:
            self._counters.count("refused", "mdns_address")
            log.debug("announcement on the local network: %s", error)
            return
        if named - {peer_id}:
            self._counters.count("refused", "mdns_address")
            return
        if not texts:
            if self._found.pop(peer_id, None) is not None:
                self._on_change()
        elif peer_id not in self._found and len(self._found) >= MAX_LOCAL:
            self._counters.count("dropped", "mdns_peer")
        elif self._found.get(peer_id) != texts[:MAX_ADDRESSES]:
            self._found[peer_id] = texts[:MAX_ADDRESSES]
            self._on_change()
