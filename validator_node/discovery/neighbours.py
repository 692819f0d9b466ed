"""Whom to keep connected: the configured peers, the validator set, and a few others. Pure.

Rules:
1. The configured bootstrap peers stay, under their configured addresses and what records add.
2. Every member of the validator set whose record gives an address we may dial is kept connected.
3. Up to `EXTRA` others are, each node choosing its own: connected ones first, then by a hash of
   both peer ids, so that nobody is everybody's choice and a choice does not wander. Who does not
   come up within `PATIENCE_S` is put aside for `ASIDE_S`.
4. Several hotkeys may name one peer id; at most `MAX_DIALLED` addresses are tried, those the peer
   itself told us first, then those of members, then by hotkey.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from protocol.codec import sha256
from validator_node.discovery.book import AddressBook, Entry
from validator_node.network.addresses import dialable

EXTRA: Final = 8
MAX_DIALLED: Final = 16
PATIENCE_S: Final = 60.0
ASIDE_S: Final = 600.0


class Neighbours:
    """The choice of one node."""

    def __init__(self, own_id: str, configured: Mapping[str, tuple[str, ...]]) -> None:
        """Begin with `configured`: the addresses of the bootstrap peers, by peer id."""
        self._own_id = own_id
        self._configured = configured
        self._chosen_at: dict[str, float] = {}
        self._aside_until: dict[str, float] = {}

    def expected(self, book: AddressBook) -> set[str]:
        """Return the peers who may turn out to be validators, besides the configured ones."""
        return {entry.peer_id for entry in book.members()} - {self._own_id}

    def choose(
        self, book: AddressBook, connected: frozenset[str], now: float, *, loopback: bool
    ) -> dict[str, tuple[str, ...]]:
        """Return the addresses to dial by peer id, of everyone to be kept connected.

        Args:
            book: the known records.
            connected: the peers connected now.
            now: monotonic seconds.
            loopback: whether we listen on loopback, and may dial it.
        """
        members = book.members()
        claims: dict[str, list[Entry]] = {}
        ranked = sorted(book.entries(), key=lambda entry: entry.hotkey)
        in_set = {entry.hotkey for entry in members}
        for entry in sorted(ranked, key=lambda e: (not e.vouched, e.hotkey not in in_set)):
            claims.setdefault(entry.peer_id, []).append(entry)
        wanted = dict(self._configured)
        for peer_id in [*wanted, *sorted({entry.peer_id for entry in members})]:
            self._add(wanted, peer_id, claims.get(peer_id, []), loopback)
        self._add_others(wanted, claims, connected, now, loopback)
        return wanted

    def _add_others(
        self,
        wanted: dict[str, tuple[str, ...]],
        claims: Mapping[str, list[Entry]],
        connected: frozenset[str],
        now: float,
        loopback: bool,
    ) -> None:
        self._put_aside(connected, now)
        candidates = [p for p in claims if p not in wanted and p not in self._aside_until]
        candidates.sort(key=lambda peer_id: (peer_id not in connected, self._rank(peer_id)))
        chosen: dict[str, float] = {}
        for peer_id in candidates:
            if len(chosen) >= EXTRA:
                break
            if self._add(wanted, peer_id, claims[peer_id], loopback):
                chosen[peer_id] = self._chosen_at.get(peer_id, now)
        self._chosen_at = chosen

    def _put_aside(self, connected: frozenset[str], now: float) -> None:
        self._aside_until = {p: until for p, until in self._aside_until.items() if until > now}
        for peer_id, since in list(self._chosen_at.items()):
            if peer_id in connected:
                self._chosen_at[peer_id] = now
            elif now - since >= PATIENCE_S:
                del self._chosen_at[peer_id]
                self._aside_until[peer_id] = now + ASIDE_S

    def _add(
        self,
        wanted: dict[str, tuple[str, ...]],
        peer_id: str,
        claims: Iterable[Entry],
        loopback: bool,
    ) -> bool:
        """Add what the records say of a peer; False if there is nothing to dial."""
        if peer_id == self._own_id:
            return False
        found = dict.fromkeys(wanted.get(peer_id, ()))
        for entry in claims:
            found.update(
                dict.fromkeys(dialable(entry.signed.record.addresses, peer_id, loopback=loopback))
            )
        if found:
            wanted[peer_id] = tuple(found)[:MAX_DIALLED]
        return bool(found)

    def _rank(self, peer_id: str) -> bytes:
        return sha256(self._own_id.encode(), peer_id.encode())
