"""Asking one peer after the other, the closest to a key first, until there is enough.

Rules:
1. In each round `ALPHA` peers are asked together, each for at most `ASK_S`; who they name joins the
   candidates. At most `MAX_ASKED` peers are asked and `MAX_CANDIDATES` remembered.
2. One of each round is an *anchor*, a peer known from elsewhere (a validator, a connected peer), as
   long as there are any. Ids close to a key can be made at will, and whoever surrounds a key with
   his own can answer for all of them: an anchor he does not choose.
"""

import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import trio
from libp2p.kad_dht.utils import sort_peer_ids_by_distance
from libp2p.peer.id import ID

from validator_node.network.errors import NetworkError

ALPHA: Final = 3
ASK_S: Final = 5.0
MAX_ASKED: Final = 24
MAX_CANDIDATES: Final = 64

Ask = Callable[[ID], Awaitable[list[ID]]]
"""Asks one peer, keeps its answer, and returns the peers it named as closer."""


class RecordNotFoundError(NetworkError):
    """Nobody who could be asked in time has an acceptable record under the key.

    `refused` counts, by reason, the values that came and were refused.
    """

    def __init__(self, key: str, asked: int, refused: dict[str, int]) -> None:
        words = ", ".join(f"{count} {reason}" for reason, count in sorted(refused.items()))
        super().__init__(f"{key}: not found, {asked} peers asked ({words or 'none had a value'})")
        self.asked = asked
        self.refused = refused


class RecordNotStoredError(NetworkError):
    """No peer was seen to hold the record after it was put; it is kept here and can be put again.

    `sent` is the number of peers it was sent to.
    """

    def __init__(self, key: str, sent: int) -> None:
        super().__init__(f"{key}: sent to {sent} peers, none was seen to hold it afterwards")
        self.sent = sent


class Lookup:
    """One question about `key`, asked around.

    Args:
        key: the bytes whose closest peers are looked for.
        own_id: never asked.
        first: peers known to be close.
        anchors: see rule 2.
    """

    def __init__(self, key: bytes, own_id: ID, first: Iterable[ID], anchors: Iterable[ID]) -> None:
        self._key = key
        self._own_id = own_id
        self.asked: set[ID] = set()
        self._candidates = self._sorted(set(first))
        self._anchors = [peer for peer in anchors if peer != own_id]
        random.shuffle(self._anchors)

    async def run(self, ask: Ask, enough: Callable[[], bool]) -> None:
        """Ask until `enough()`, or nobody is left; a round is broken off as soon as it is."""
        while not enough() and (batch := self._next_batch()):
            async with trio.open_nursery() as nursery:
                for peer in batch:
                    nursery.start_soon(self._ask_one, peer, ask, enough, nursery.cancel_scope)

    async def _ask_one(
        self, peer: ID, ask: Ask, enough: Callable[[], bool], round_scope: trio.CancelScope
    ) -> None:
        with trio.move_on_after(ASK_S):
            named = await ask(peer)
            self._candidates = self._sorted({*self._candidates, *named})
        if enough():
            round_scope.cancel()

    def _next_batch(self) -> list[ID]:
        batch: list[ID] = []
        while self._anchors and not batch:
            self._take(self._anchors.pop(), batch)
        for peer in list(self._candidates):
            if len(batch) >= ALPHA:
                break
            self._take(peer, batch)
        while self._anchors and len(batch) < ALPHA:
            self._take(self._anchors.pop(), batch)
        return batch

    def _take(self, peer: ID, batch: list[ID]) -> None:
        if peer not in self.asked and len(self.asked) < MAX_ASKED:
            self.asked.add(peer)
            batch.append(peer)

    def _sorted(self, peers: set[ID]) -> list[ID]:
        wanted = [peer for peer in peers if peer != self._own_id and peer not in self.asked]
        closest: Any = sort_peer_ids_by_distance(self._key, wanted)
        return list(closest[:MAX_CANDIDATES])
