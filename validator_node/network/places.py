"""Places: who may be connected to us, and who makes room when every place is taken. Pure.

Rules:
1. A connection is half-open until its handshake has told whose it is, then it takes a place. Before
   the handshake only the address is known, so only what an address may have is refused there.
2. When all half-open ones are taken, one makes room that has had `HANDSHAKE_GRACE_S`: the oldest of
   the address that has most. An honest handshake lasts a few round trips.
3. Strangers share `inbound_connections` with everybody. Above that registered hotkeys have
   `registered_reserve`, and members and configured peers `member_reserve` more.
4. When there is no place left, an idle stranger makes room: one that has done nothing useful for
   `idle_s` since it came. Useful is a message that was accepted, a request that was answered, an
   answer that was given. An open stream is not: whoever connects has one. Of the address with most
   places the longest idle goes first. A stranger whose address has places already may put out one
   of another address only if that has two more, so that it becomes more even: whoever fills a node
   from few addresses yields to everybody else, and cannot take his places back.
5. A stranger's address that puts out its own is counted apart from one that puts out another, and
   of each there is at most one in `PUT_OUT_S`, so that nobody can churn connections. Who is put out
   has done nothing wrong and is not charged.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from validator_node.network.counters import Counters
from validator_node.network.standing import Standing

if TYPE_CHECKING:
    from validator_node.network.limits import Limits

LOOPBACK_FACTOR: Final = 8
HANDSHAKE_GRACE_S: Final = 1.0
PUT_OUT_S: Final = 1.0

PutOut = Callable[[], None]


def group_of(ip: str) -> tuple[str, int]:
    """Return (what counts as one address, its factor): an IPv4 address or an IPv6 /64."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return "unknown", 1
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    factor = LOOPBACK_FACTOR if address.is_loopback else 1
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False)), factor
    return str(address), factor


class Arrival:
    """One inbound TCP connection, half-open until `established`."""

    def __init__(self, places: Places, group: str, put_out: PutOut, since: float) -> None:
        self._places = places
        self.group = group
        self.put_out = put_out
        self.since = since
        self.peer_id = ""

    def established(self, peer_id: str) -> bool:
        """Give it a place, as this peer's, from now on; False if there is none: then close it."""
        return self._places.establish(self, peer_id)

    def end(self) -> None:
        """Give back what it held; nothing if it was put out."""
        self._places.depart(self)


class Places:
    """The inbound connections of one host, half-open and open."""

    def __init__(
        self,
        limits: Limits,
        standing_of: Callable[[str], Standing],
        now: Callable[[], float],
        counters: Counters,
    ) -> None:
        self._limits = limits
        self._standing_of = standing_of
        self._now = now
        self._counters = counters
        # Both in the order in which they came.
        self._half_open: dict[Arrival, None] = {}
        self._open: dict[Arrival, None] = {}
        self._used: dict[str, float] = {}
        self._next_put_out = {True: float("-inf"), False: float("-inf")}

    @property
    def half_open(self) -> int:
        """Connections whose handshake is not finished."""
        return len(self._half_open)

    @property
    def taken(self) -> int:
        """Places that are taken."""
        return len(self._open)

    def arrive(self, ip: str, put_out: PutOut) -> Arrival | None:
        """Admit a TCP connection to the handshake; None if it must be closed at once.

        Args:
            ip: where it comes from.
            put_out: called, at most once, when it must make room; then it must be closed.
        """
        group, factor = group_of(ip)
        limits = self._limits
        if _count(self._half_open, group) >= limits.half_open_per_ip * factor:
            reason = "half_open_per_ip"
        elif _count(self._open, group) >= limits.inbound_per_ip * factor:
            reason = "inbound_per_ip"
        elif len(self._half_open) >= limits.half_open and not self._put_out_half_open():
            reason = "half_open"
        else:
            arrival = Arrival(self, group, put_out, self._now())
            self._half_open[arrival] = None
            return arrival
        self._counters.count("refused", reason)
        return None

    def _put_out_half_open(self) -> bool:
        before = self._now() - HANDSHAKE_GRACE_S
        found = [arrival for arrival in self._half_open if arrival.since <= before]
        if not found:
            return False
        at = Counter(arrival.group for arrival in self._half_open)
        # Of equals the first, which is the oldest.
        self._put_out(max(found, key=lambda arrival: at[arrival.group]), "half_open")
        return True

    def establish(self, arrival: Arrival, peer_id: str) -> bool:
        """Give an arrival a place; see `Arrival.established`."""
        if arrival not in self._half_open:  # put out meanwhile
            return False
        standing = self._standing_of(peer_id)
        if len(self._open) >= self._room(standing) and not self._make_room(arrival.group, standing):
            self._counters.count("refused", "inbound_connections")
            return False
        del self._half_open[arrival]
        arrival.peer_id, arrival.since = peer_id, self._now()
        self._open[arrival] = None
        self._used.setdefault(peer_id, arrival.since)
        return True

    def _room(self, standing: Standing) -> int:
        if standing.is_reserved:
            return self._limits.all_inbound
        reserve = self._limits.registered_reserve if standing is Standing.REGISTERED else 0
        return self._limits.inbound_connections + reserve

    def _make_room(self, group: str, standing: Standing) -> bool:
        """Put an idle stranger out for an arrival from `group` (rules 4 and 5)."""
        now = self._now()
        at = Counter(arrival.group for arrival in self._open)
        least = at[group] + 1 if at[group] else 0

        def may_go(other: Arrival) -> bool:
            own = other.group == group
            if now < self._next_put_out[own] or now - self._last_use(other) < self._limits.idle_s:
                return False
            if not (own or standing > Standing.STRANGER or at[other.group] > least):
                return False
            return self._standing_of(other.peer_id) is Standing.STRANGER

        found = [other for other in self._open if may_go(other)]
        if not found:
            return False
        chosen = max(found, key=lambda other: (at[other.group], -self._last_use(other)))
        self._next_put_out[chosen.group == group] = now + PUT_OUT_S
        self._put_out(chosen, "idle_connection")
        return True

    def _last_use(self, arrival: Arrival) -> float:
        return max(arrival.since, self._used[arrival.peer_id])

    def _put_out(self, arrival: Arrival, reason: str) -> None:
        self.depart(arrival)
        self._counters.count("reset", reason)
        arrival.put_out()

    def depart(self, arrival: Arrival) -> None:
        """Count an arrival as gone; see `Arrival.end`."""
        self._half_open.pop(arrival, None)
        if arrival in self._open:
            del self._open[arrival]
            if all(other.peer_id != arrival.peer_id for other in self._open):
                del self._used[arrival.peer_id]

    def note_use(self, peer_id: str) -> None:
        """Note that a peer was of use just now (rule 4)."""
        if peer_id in self._used:
            self._used[peer_id] = self._now()


def _count(arrivals: Iterable[Arrival], group: str) -> int:
    return sum(arrival.group == group for arrival in arrivals)
