"""Budgets: what one peer, one address and all of them together may use of this node.

Rules: every budget has a number in `Limits`; `Gate` holds what is used of it and is asked before
anything is granted. What is over is refused and counted; what only a hostile peer does is charged
to its score as well. A peer id costs nothing, so what must be scarce is bounded in total too.

Memory: `Limits.memory_bound_bytes` adds up what strangers can make this process hold. It is a bound
on bytes held for peers, over what the process holds without any: interpreter, imports, state. Not
in it is what our own handlers were given and keep: whole requests (256 at most, see `requests`),
frames of admitted links, accepted messages and their ids; those have budgets of their own.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import trio

from validator_node.network.counters import PROCESS, Counters
from validator_node.network.places import Places
from validator_node.network.pressure import Pressure
from validator_node.network.scores import Scores
from validator_node.network.standing import Standings

KIB: Final = 1_024
MIB: Final = 1_024 * KIB
CONNECTION_BYTES: Final = 120 * KIB
"""Measured: objects and tasks of one open connection."""
HANDSHAKE_BYTES: Final = 160 * KIB
"""One Noise message of 64 KiB, encrypted and plain, and the objects of a handshake."""
RPC_PARSED_BYTES: Final = 64 * MIB
"""Measured: a gossip RPC of 1 MiB that is all empty entries, parsed; one exists at a time."""
_ATTRIBUTE: Final = "_node_gate"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Every budget of the network.

    Attributes:
        inbound_connections: open connections that others dialled; strangers have no more places.
        registered_reserve: further ones of registered hotkeys, see `places`.
        member_reserve: further ones of members and configured peers.
        idle_s: seconds without any use after which a stranger makes room when all is taken.
        inbound_per_ip: those from one IP address (IPv6: one /64); loopback, where test networks
            put many nodes, may have `LOOPBACK_FACTOR` times as many, here and for half-open ones.
        half_open: TCP connections accepted whose Noise handshake is not finished.
        half_open_per_ip: those from one IP address.
        handshake_s: seconds a handshake may take.
        connections_per_peer: open connections to one peer, whoever dialled.
        streams_per_peer: streams that one peer holds open to us.
        streams_per_s: new streams a second of one peer, steadily; bursts of twice as many pass.
        gossip_bytes_per_s: bytes of gossip RPCs a second of one peer, steadily; bursts of twice as
            much pass, then its stream is read more slowly.
        gossip_messages_per_s: messages, subscriptions and control entries a second of one peer, in
            the same way.
        gossip_useless_per_s: messages a second of one peer that are of no use to anybody (see
            `gossip_door`), steadily, before it is read more slowly.
        gossip_useless_total_per_s: the same, of all strangers together.
        gossip_in_check: gossip messages under validation, of all peers; a quarter is for members
            and configured peers.
        gossip_cache_bytes: recent messages kept for whoever asks again.
        gossip_outbound_bytes: messages that wait for slow peers, of all peers.
        buffered_per_connection: bytes received and not read: in the multiplexer, and in frames not
            yet whole. Beyond it the connection is closed and its peer charged.
        buffered_total: the same for all connections; beyond it the one that holds most is closed.
        yamux_frame_bytes: one Yamux data frame; implementations of libp2p send at most 64 KiB.
        frame_s: seconds from the first byte of a frame or RPC to its last.
        subscriptions_per_peer: topics one peer is subscribed to.
        subscriptions_total: the same, of all peers.
        topic_chars: length of a topic's name.
    """

    inbound_connections: int = 192
    registered_reserve: int = 32
    member_reserve: int = 64
    idle_s: float = 30.0
    inbound_per_ip: int = 16
    half_open: int = 96
    half_open_per_ip: int = 8
    handshake_s: float = 10.0
    connections_per_peer: int = 4
    streams_per_peer: int = 128
    streams_per_s: float = 200.0
    gossip_bytes_per_s: float = 8.0 * MIB
    gossip_messages_per_s: float = 500.0
    gossip_useless_per_s: float = 20.0
    gossip_useless_total_per_s: float = 80.0
    gossip_in_check: int = 256
    gossip_cache_bytes: int = 32 * MIB
    gossip_outbound_bytes: int = 64 * MIB
    buffered_per_connection: int = 16 * MIB
    buffered_total: int = 96 * MIB
    yamux_frame_bytes: int = 256 * KIB
    frame_s: float = 30.0
    subscriptions_per_peer: int = 64
    subscriptions_total: int = 8_192
    topic_chars: int = 256

    @property
    def all_inbound(self) -> int:
        """Open connections that others dialled, reserves included."""
        return self.inbound_connections + self.registered_reserve + self.member_reserve

    def memory_bound_bytes(self, message_bytes: int = 256 * KIB) -> int:
        """Return the bytes that peers can make this process hold, about 550 MiB by default.

        Args:
            message_bytes: the largest `max_bytes` of a joined topic.
        """
        connections = self.all_inbound + self.half_open
        return (
            self.all_inbound * (CONNECTION_BYTES + 2 * self.yamux_frame_bytes)
            + self.half_open * HANDSHAKE_BYTES
            + self.buffered_total
            + connections * SCAN_BYTES  # may arrive before the next look
            + self.gossip_in_check * message_bytes
            + self.gossip_cache_bytes
            + self.gossip_outbound_bytes
            + RPC_PARSED_BYTES
            + self.subscriptions_total * (self.topic_chars * 4 + 500)
        )


SCAN_BYTES: Final = 64 * KIB
"""A connection's buffers are added up each time this much has arrived on it."""


class Rate:
    """A token bucket: `per_second` steadily, twice as much at once."""

    def __init__(self, per_second: float, now: Callable[[], float]) -> None:
        self._per_second = per_second
        self._now = now
        self._level, self._at = 2 * per_second, now()

    def _refill(self) -> None:
        now = self._now()
        gained = (now - self._at) * self._per_second
        self._level, self._at = min(2 * self._per_second, self._level + gained), now

    def spend(self, cost: float = 1.0) -> bool:
        """Take `cost`; False, and nothing taken, if there is not that much."""
        self._refill()
        if self._level < cost:
            return False
        self._level -= cost
        return True

    def owe(self, cost: float) -> float:
        """Take `cost` in any case, and return the seconds until the bucket is out of debt."""
        self._refill()
        self._level -= cost
        return max(0.0, -self._level / self._per_second)


class Gate:
    """What is used of the budgets of one host."""

    def __init__(self, limits: Limits, scores: Scores, counters: Counters) -> None:
        self.limits = limits
        self.scores = scores
        self.counters = counters
        self.standings = Standings(scores.now)
        self.places = Places(limits, self.standings.of, scores.now, counters)
        self.pressure = Pressure()
        self._streams: Counter[str] = Counter()
        self._stream_rates: dict[str, Rate] = {}
        self._buffered: dict[Any, int] = {}
        self._buffered_sum = 0

    # Connections; those that others dialled have `places`

    def why_refused(self, peer_id: str, connections: int) -> str | None:
        """Return why another connection to a peer is refused, or None."""
        if self.scores.is_banned(peer_id):
            return "banned_peer"
        return "connections_per_peer" if connections >= self.limits.connections_per_peer else None

    # Streams

    def begin_stream(self, peer_id: str) -> bool:
        """Grant a peer one more stream to us; it is given back by `end_stream`."""
        if self._streams[peer_id] >= self.limits.streams_per_peer:
            reason = "streams_per_peer"
        else:
            rate = self._stream_rates.get(peer_id)
            if rate is None:
                rate = Rate(self.limits.streams_per_s, trio.current_time)
                self._stream_rates[peer_id] = rate
            if rate.spend():
                self._streams[peer_id] += 1
                return True
            reason = "stream_rate"
        self.counters.count("refused", reason)
        self.scores.charge(peer_id, "stream_refused")
        return False

    def end_stream(self, peer_id: str) -> None:
        """Give back a stream."""
        _lower(self._streams, peer_id)

    def forget(self, peer_id: str) -> None:
        """Forget the stream rate of a peer without connections."""
        self._stream_rates.pop(peer_id, None)

    # Bytes received and not read

    def note_buffered(self, connection: Any, held: int) -> Any:
        """Note what a connection's buffers hold now; return the connection to close, or None."""
        self._buffered_sum += held - self._buffered.get(connection, 0)
        self._buffered[connection] = held
        if held > self.limits.buffered_per_connection:
            return self._overrun(connection, "buffered_per_connection")
        if self._buffered_sum <= self.limits.buffered_total:
            return None
        # The other figures are from when something last arrived: their readers may have caught up.
        for other in self._buffered:
            self._buffered[other] = held_by(other)
        self._buffered_sum = sum(self._buffered.values())
        if self._buffered_sum <= self.limits.buffered_total:
            return None
        return self._overrun(max(self._buffered, key=self._buffered.__getitem__), "buffered_total")

    def _overrun(self, connection: Any, reason: str) -> Any:
        self.counters.count("reset", reason)
        self.scores.charge(str(connection.peer_id), "buffer_overrun")
        self.drop_buffered(connection)
        return connection

    def drop_buffered(self, connection: Any) -> None:
        """Forget a connection that is closed."""
        self._buffered_sum -= self._buffered.pop(connection, 0)

    @property
    def buffered_bytes(self) -> int:
        """Bytes received and not read, as last added up."""
        return self._buffered_sum


def held_by(connection: Any) -> int:
    """Add up what a Yamux connection's stream buffers and unfinished frames hold, in bytes."""
    return _size(connection.stream_buffers.values()) + _size(frames_of(connection).values())


def frames_of(connection: Any) -> dict[int, bytearray]:
    """Return the buffers of a connection's unfinished inbound frames, by any key."""
    found: dict[int, bytearray] = connection.__dict__.setdefault("_node_frames", {})
    return found


def _size(buffers: Iterable[bytearray]) -> int:
    return sum(map(len, buffers))


def _lower(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]


def install(owner: object, gate: Gate) -> None:
    """Let the corrections of the library ask `gate` on behalf of `owner`."""
    setattr(owner, _ATTRIBUTE, gate)


def gate_of(owner: object) -> Gate:
    """Return the gate of `owner`, or one with the default limits for whoever has none."""
    found = getattr(owner, _ATTRIBUTE, None)
    if not isinstance(found, Gate):
        found = Gate(Limits(), Scores(trio.current_time, PROCESS), PROCESS)
        setattr(owner, _ATTRIBUTE, found)
    return found
