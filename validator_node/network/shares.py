"""Who may have how many requests under way: shares of a peer, of an address, and of all. Pure.

Rules:
1. A request first waits to be read, which costs next to nothing, then it is worked at. The two are
   counted apart, so that whoever opens streams and sends nothing takes no handler from anybody.
2. Beyond `READING_TOTAL` the request that has waited longest to be read makes room for the new one:
   an honest one is read in a round trip, so it is the silent ones that are oldest. Those of peers
   with a reserve are never put out.
3. A peer works at most at `PER_PEER` at a time, which only it can fill: what is over is its fault.
   An address has `PER_ADDRESS` and all together `TOTAL`, twice as many for peers that have none
   under way. Above that registered hotkeys have `REGISTERED_RESERVE`, and members and configured
   peers `MEMBER_RESERVE` more, and the share of an address does not bind them: a refusal there is
   our own fullness, and nobody is charged for it.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

from validator_node.network.places import group_of
from validator_node.network.standing import Standing

READING_PER_PEER: Final = 16
READING_TOTAL: Final = 512
PER_PEER: Final = 16
PER_ADDRESS: Final = 48
"""Of one IPv4 address or IPv6 /64; on loopback `LOOPBACK_FACTOR` times as many."""
TOTAL: Final = 128
REGISTERED_RESERVE: Final = 32
MEMBER_RESERVE: Final = 64

PutOut = Callable[[], None]


class RequestShares:
    """The requests that wait to be read, and those that are worked at."""

    def __init__(self, standing_of: Callable[[str], Standing]) -> None:
        self._standing_of = standing_of
        self._reading: OrderedDict[object, tuple[str, PutOut]] = OrderedDict()
        self._reading_of: Counter[str] = Counter()
        self._working_of: Counter[str] = Counter()
        self._working_at: Counter[str] = Counter()

    @property
    def working(self) -> int:
        """Requests that are worked at."""
        return self._working_of.total()

    @property
    def reading(self) -> int:
        """Requests that wait to be read."""
        return len(self._reading)

    def begin_reading(self, key: object, peer_id: str, put_out: PutOut) -> bool:
        """Let a request wait to be read; False if its peer has too many of its own there.

        `put_out()` is called if it must make room for another one (rule 2).
        """
        if self._reading_of[peer_id] >= READING_PER_PEER:
            return False
        if len(self._reading) >= READING_TOTAL:
            self._make_room()
        self._reading[key] = peer_id, put_out
        self._reading_of[peer_id] += 1
        return True

    def _make_room(self) -> None:
        for key, (peer_id, put_out) in self._reading.items():
            if not self._standing_of(peer_id).is_reserved:
                self.end_reading(key)
                put_out()
                return

    def end_reading(self, key: object) -> None:
        """Note that a request is read or given up; a second time changes nothing."""
        held = self._reading.pop(key, None)
        if held is not None:
            _lower(self._reading_of, held[0])

    def begin_work(self, peer_id: str, ip: str) -> str | None:
        """Grant a slot and return None, or return why not.

        The reason `requests_per_peer` is the peer's own doing; `requests_per_address` and
        `requests_total` are not (rule 3).
        """
        own, standing = self._working_of[peer_id], self._standing_of(peer_id)
        address, factor = group_of(ip)
        if own >= PER_PEER:
            return "requests_per_peer"
        if not standing.is_reserved and self._working_at[address] >= PER_ADDRESS * factor:
            return "requests_per_address"
        if self.working >= self._most(own, standing):
            return "requests_total"
        self._working_of[peer_id] += 1
        self._working_at[address] += 1
        return None

    def _most(self, own: int, standing: Standing) -> int:
        most = TOTAL if own else 2 * TOTAL
        if standing.is_reserved:
            return 2 * TOTAL + REGISTERED_RESERVE + MEMBER_RESERVE
        if standing is Standing.REGISTERED:
            return 2 * TOTAL + REGISTERED_RESERVE
        return most

    def end_work(self, peer_id: str, ip: str) -> None:
        """Give a slot back."""
        _lower(self._working_of, peer_id)
        _lower(self._working_at, group_of(ip)[0])


def _lower(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
