"""The network as the rest of the node sees it: gossip, requests, links, bootstrap peers.

Rules: peers are named by their peer id as text (base58), payloads are bytes; every error is a
`NetworkError`; every queue is bounded and counts what it drops; cancellation always passes. A
client that only publishes uses the same class and joins nothing.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from validator_node.network.addresses import is_loopback_host
from validator_node.network.connections import Connections
from validator_node.network.counters import Counters
from validator_node.network.dht import Dht
from validator_node.network.dht_records import DhtConfig
from validator_node.network.gossip import MAX_MESSAGE_BYTES, Gossip
from validator_node.network.gossip_checks import Glance, GossipMessage, TopicCheck
from validator_node.network.groups import sole_error
from validator_node.network.host import cut_after_grace, make_host, parse_address, run_host
from validator_node.network.limits import Gate, Limits
from validator_node.network.links import Hello, LinkConfig, Links, OnFrame, OnHello, OnLink
from validator_node.network.names import Names
from validator_node.network.requests import Handler, Requests
from validator_node.network.scores import Scores
from validator_node.network.streams import StreamOpener
from validator_node.network.versions import VersionedHost


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """How a node takes part in the network.

    Attributes:
        seed: 32-byte ed25519 seed of the libp2p key; the peer id follows from it.
        listen_host: an IP address of this machine.
        listen_port: a TCP port, 0 for any free one.
        bootstrap: multiaddrs with /p2p/ peer ids, kept connected: a lost peer is dialled at once,
            then after 0.2 s doubling to 10 s.
        announce: multiaddrs without peer id to advertise instead of the listening ones, for a node
            behind NAT.
        limits: what peers may use of this node.
        dht: what it brings to the DHT; None takes no part.
    """

    seed: bytes = field(repr=False)
    listen_host: str
    listen_port: int
    bootstrap: tuple[str, ...] = ()
    announce: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    dht: DhtConfig | None = None


class Network:
    """A running node of the network; made by `open_network`."""

    def __init__(self, host: Any, gossip: Gossip, connections: Connections, gate: Gate) -> None:
        self._host = host
        self._versions = VersionedHost(host)
        self._gossip = gossip
        self._connections = connections
        self._gate = gate
        self._nursery: trio.Nursery | None = None
        self._opener: StreamOpener | None = None
        self._requests: Requests | None = None
        self.counters, self.standings, self.pressure = gate.counters, gate.standings, gate.pressure
        self.dht: Dht | None = None
        self.peer_id = str(host.get_id())

    def _start(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._opener = StreamOpener(self._versions, nursery, self._gate.scores)
        self._requests = Requests(self._versions, self._opener, self._gate)
        self._connections.start(nursery)
        for service in (self.pressure, self.dht) if self.dht else (self.pressure,):
            nursery.start_soon(service.run)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Our multiaddrs, each with our /p2p/ peer id."""
        return tuple(str(address) for address in self._host.get_addrs())

    def peers(self) -> frozenset[str]:
        """Return the ids of the connected peers."""
        return self._connections.peers()

    async def wait_connected(self, count: int) -> None:
        """Wait until at least `count` peers are connected."""
        await self._connections.wait_connected(count)

    async def wait_lost(self, peer_id: str) -> None:
        """Wait until there is no connection to the peer."""
        await self._connections.wait_lost(peer_id)

    def add_bootstrap(self, multiaddr: str) -> None:
        """Keep a peer connected from now on; see `Connections.add_bootstrap`."""
        self._connections.add_bootstrap(multiaddr)

    def remove_bootstrap(self, peer_id: str) -> None:
        """Stop keeping a peer connected; an open connection stays."""
        self._connections.remove_bootstrap(peer_id)

    def keep(self, peer_id: str, multiaddrs: Sequence[str]) -> None:
        """Keep a peer connected under these addresses alone; see `Connections.keep`."""
        self._connections.keep(peer_id, multiaddrs)

    async def wait_peers(self, holds: Callable[[frozenset[str]], bool]) -> None:
        """Wait until `holds(connected peers)`."""
        await self._connections.wait(lambda: holds(self._connections.peers()))

    async def disconnect(self, peer_id: str) -> None:
        """Close the connections to a peer; a bootstrap peer is dialled again at once."""
        await self._connections.disconnect(peer_id)

    def charge(self, peer_id: str, reason: str, cost: float | None = None) -> bool:
        """Charge a peer's score for what it did; True if that bans it (see `scores`).

        Args:
            peer_id: who did it, as its connection authenticated it.
            reason: a short identifier, never text from a peer.
            cost: units, of which 200 are too many and 2 a second are forgiven; one by default.
        """
        return self._gate.scores.charge(peer_id, reason, cost)

    def score(self, peer_id: str) -> float:
        """Return what a peer has run up: 0 is spotless, beyond 200 it is banned."""
        return self._gate.scores.level(peer_id)

    def bans(self) -> dict[str, float]:
        """Return the banned peers, and the seconds that each ban still lasts."""
        return self._gate.scores.bans()

    def on_ban(self, listener: Callable[[str, str], None]) -> None:
        """Call `listener(peer_id, reason)` whenever a peer is banned."""
        self._gate.scores.on_ban(listener)

    @property
    def buffered_bytes(self) -> int:
        """Bytes received from peers and not yet read."""
        return self._gate.buffered_bytes

    async def join(
        self,
        topic: str,
        check: TopicCheck,
        *,
        capacity: int = 1024,
        max_bytes: int = MAX_MESSAGE_BYTES,
        glance: Glance | None = None,
    ) -> trio.MemoryReceiveChannel[GossipMessage]:
        """Receive and forward a gossip topic.

        Args:
            topic: at most 256 characters.
            check: `check(peer_id of the forwarder, data) -> answer`, see `gossip_checks`.
            capacity: delivered messages that may wait; further ones are dropped and counted.
            max_bytes: larger messages are refused before the check.
            glance: `glance(data)` turns useless messages away before any signature is verified.

        Raises:
            AlreadyJoinedError: the topic is joined.
        """
        limits = {"capacity": capacity, "max_bytes": max_bytes}
        return await self._gossip.join(topic, check, glance=glance, **limits)

    async def leave(self, topic: str) -> None:
        """Stop receiving and forwarding a topic; its channel ends."""
        await self._gossip.leave(topic)

    async def publish(self, topic: str, data: bytes) -> None:
        """Publish on a topic, joined or not; it does not come back to ourselves.

        Without a connected subscriber it waits up to 30 s for one (at most 100 messages a peer),
        then it is lost: see `wait_subscriber`.

        Raises:
            MessageTooLargeError: the message exceeds the topic's limit (256 KiB by default).
        """
        await self._gossip.publish(topic, data)

    def subscribers(self, topic: str) -> frozenset[str]:
        """Return the connected peers that joined a topic."""
        return self._gossip.subscribers(topic)

    async def wait_subscriber(self, topic: str, count: int = 1) -> None:
        """Wait until at least `count` connected peers have joined a topic."""
        await self._gossip.wait_subscriber(topic, count)

    def spoken(self, peer_id: str, protocol: str | Sequence[str]) -> str | None:
        """Return the version in which we last opened a stream to a peer, None if none was."""
        return self._versions.spoken(peer_id, self._versions.declare(protocol))

    def serve(
        self,
        protocol: str | Sequence[str],
        handler: Handler,
        *,
        max_request_bytes: int,
        deadline_s: float,
    ) -> None:
        """Answer requests on a protocol: one request frame, one reply frame.

        Args:
            protocol: its id or all its versions, newest first (see `versions.negotiated()`).
            handler: `async handler(peer_id, request) -> reply`; see `requests` for how many.
            max_request_bytes: a larger request is reset before it is read.
            deadline_s: seconds for the whole exchange.

        Raises:
            AlreadyJoinedError: the protocol is served already.
        """
        assert self._requests is not None
        self._requests.serve(
            self._versions.declare(protocol),
            handler,
            max_request_bytes=max_request_bytes,
            deadline_s=deadline_s,
        )

    async def request(
        self,
        peer_id: str,
        protocol: str | Sequence[str],
        data: bytes,
        *,
        deadline_s: float,
        max_reply_bytes: int,
    ) -> bytes:
        """Ask a peer, in the newest version that it serves too, and return its reply.

        Raises:
            PeerUnreachableError: no connection, or the peer does not speak the protocol.
            StreamClosedError: the peer refused, or its handler failed; `PeerBusyError`: no room.
            FrameTooLargeError: the reply exceeds `max_reply_bytes`.
            DeadlineExceededError: no reply within `deadline_s` seconds.
        """
        assert self._requests is not None
        name = self._versions.declare(protocol)
        return await self._requests.request(
            peer_id, name, data, deadline_s=deadline_s, max_reply_bytes=max_reply_bytes
        )

    def open_links(
        self,
        protocol: str | Sequence[str],
        *,
        on_frame: OnFrame,
        hello: Hello | None = None,
        on_hello: OnHello | None = None,
        on_link_up: OnLink | None = None,
        on_link_down: OnLink | None = None,
        wanted: Any = lambda _: True,
        capacity: int = 256,
        max_frame_bytes: int = 4_194_304,
    ) -> Links:
        """Keep a direct link to every wanted connected peer.

        Args:
            protocol: an id or all its versions, newest first; `spoken` says which one it is.
            on_frame: `on_frame(peer_id, frame)`, may be a coroutine function; one frame of a peer
                at a time in order; while it waits, the peer's writer is held back.
            hello: makes the first frame of each new outbound stream.
            on_hello: `async on_hello(peer_id, data) -> bool` admits an inbound stream.
            on_link_up, on_link_down: told when the peer admitted our stream, and when that ended.
            wanted: `wanted(peer_id) -> bool`, which connected peers get a link (default: all).
            capacity: frames that may wait for one peer; the stalest is dropped.
            max_frame_bytes: limit of one frame both ways.
        """
        assert self._opener is not None
        assert self._nursery is not None
        config = LinkConfig(
            protocol=self._versions.declare(protocol),
            on_frame=on_frame,
            hello=hello,
            on_hello=on_hello,
            on_link_up=on_link_up,
            on_link_down=on_link_down,
            wanted=wanted,
            capacity=capacity,
            max_frame_bytes=max_frame_bytes,
        )
        return Links(
            self._versions, self._opener, self._connections, self._gate, self._nursery, config
        )


@asynccontextmanager
async def open_network(config: NetworkConfig) -> AsyncIterator[Network]:
    """Run a node of the network until the block ends.

    Raises:
        AddressInUseError: another process listens on the address.
        ListenError: the address cannot be listened on.
        InvalidAddressError: a bootstrap multiaddr is malformed.
        ValueError: the seed is not 32 bytes long.
    """
    for address in config.bootstrap:
        parse_address(address)
    counters = Counters()
    gate = Gate(config.limits, Scores(trio.current_time, counters), counters)
    host = make_host(config.seed, config.listen_host, config.listen_port, gate, config.announce)
    gossip = Gossip(host, gate)
    names = Names(counters, loopback=is_loopback_host(config.listen_host))
    connections = Connections(host, gate, names)
    network = Network(host, gossip, connections, gate)
    if config.dht is not None:
        network.dht = Dht(host, config.dht, gate)
    for address in config.bootstrap:
        connections.add_bootstrap(address)
    stop, closed = trio.Event(), trio.Event()
    with sole_error():
        async with trio.open_nursery() as nursery:
            with trio.CancelScope(shield=True):
                await nursery.start(_run_services, host, gossip, config, stop, closed)
            try:
                async with trio.open_nursery() as tasks:
                    network._start(tasks)
                    try:
                        yield network
                    finally:
                        connections.stop()
                        nursery.start_soon(cut_after_grace, host, closed)
                        tasks.cancel_scope.cancel()
            finally:
                stop.set()


async def _run_services(
    host: Any,
    gossip: Gossip,
    config: NetworkConfig,
    stop: trio.Event,
    closed: trio.Event,
    *,
    task_status: Any = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the library's services, out of reach of a cancellation until they are stopped.

    Cancelled from outside, they leave sockets open: each connection closes over several steps.
    """
    with trio.CancelScope(shield=True):
        async with run_host(host, config.listen_host, config.listen_port), gossip.run():
            task_status.started()
            await stop.wait()
    closed.set()
