"""Whose turn it is to bring a blob, and how long: no holder can use up the time of the others.

Rules:
1. While others are left, a holder has an equal share of the time that is left, but at least one
   part in `MOST_TURNS` of the whole and `MIN_TURN_S`. Who does not have the blob says so at once,
   and its share goes to the others. The last one has all that is left.
2. Who failed the last time is asked last: for the same blob before all, for another one after it.
   Failing is sending wrong bytes, or taking `WASTED_S` or more without bringing the blob to its
   end; saying quickly that one does not have it is not. Who brings it to its end is forgiven.
3. What is remembered is bounded: the oldest failures are forgotten first.
4. Whoever has no reason to prefer a holder asks in a random order (`shuffled`).
"""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from collections.abc import Hashable, Iterable

MOST_TURNS = 8
MIN_TURN_S = 5.0
WASTED_S = 1.0
MAX_REMEMBERED = 4096

_random = random.SystemRandom()


def shuffled(peer_ids: Iterable[str]) -> list[str]:
    """Return the peers in an order that nobody can know before."""
    every = list(peer_ids)
    return _random.sample(every, len(every))


def turn_s(whole_s: float, left_s: float, others: int) -> float:
    """Return the seconds a holder has when `others` are to be asked after it (rule 1)."""
    if not others:
        return math.inf
    return max(left_s / (others + 1), whole_s / MOST_TURNS, MIN_TURN_S)


class Failures:
    """Which holders failed the last time (rule 2)."""

    def __init__(self, max_remembered: int = MAX_REMEMBERED) -> None:
        """`max_remembered` bounds peers, and as many pairs of a blob and a peer."""
        self._peers = _Recent(max_remembered)
        self._pairs = _Recent(max_remembered)

    def order(self, digest: bytes, peer_ids: Iterable[str]) -> list[str]:
        """Return each peer once: in the order given, but who failed last."""
        return sorted(
            dict.fromkeys(peer_ids),
            key=lambda peer_id: ((digest, peer_id) in self._pairs, peer_id in self._peers),
        )

    def note(self, digest: bytes, peer_id: str, *, failed: bool) -> None:
        """Remember that a peer failed to bring a blob, or forgive it."""
        if failed:
            self._peers.add(peer_id)
            self._pairs.add((digest, peer_id))
        else:
            self._peers.discard(peer_id)
            self._pairs.discard((digest, peer_id))


class _Recent:
    """The things added last, so many at most."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._things: OrderedDict[Hashable, None] = OrderedDict()

    def __contains__(self, thing: Hashable) -> bool:
        return thing in self._things

    def add(self, thing: Hashable) -> None:
        self._things[thing] = None
        self._things.move_to_end(thing)
        if len(self._things) > self._most:
            self._things.popitem(last=False)

    def discard(self, thing: Hashable) -> None:
        self._things.pop(thing, None)
