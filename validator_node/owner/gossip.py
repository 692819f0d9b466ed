"""The gossip of the owner's changes: who brings them, and how long they are passed on.

Rules:
1. A change that the pool takes in is forwarded once and kept until the state has decided about it.
2. Whoever holds a change publishes it again every `REPEAT_S` while somebody listens, so that a node
   that was away, and a primary that missed it, get it as well. Who has it ignores it: a repetition
   goes no further than where it is news.
3. Who brought a signed change that waits, here or as a candidate, may be asked for its module and
   data: at first nobody but the owner has them. The last `MAX_AUTHORS` that published one and the
   last `MAX_HOLDERS` that passed one on are remembered. They are asked in a random order, so that
   none of them can stay in the way of the others.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable

import structlog
import trio

from protocol.actions import MAX_CHANGE_BYTES, RegistryChange, registry_topic
from protocol.codec import decode, digest_of, encode
from registry import keys
from registry.access import read
from registry.lifecycle import candidates, waiting
from validator_node.network.errors import NetworkError
from validator_node.network.gossip import CheckAnswer, GossipMessage
from validator_node.network.network import Network
from validator_node.owner.pool import RegistryPool
from validator_node.store import Store

REPEAT_S = 10.0
MAX_AUTHORS = 4
MAX_HOLDERS = 8

log = structlog.get_logger(__name__)


class RegistryGossip:
    """Takes changes in and passes them on. Run `run` in the node's nursery."""

    def __init__(
        self,
        network: Network,
        store: Store,
        pool: RegistryPool,
        on_change: Callable[[], None],
    ) -> None:
        """`on_change` is told when a change was taken in: there may be something to order."""
        self._network = network
        self._store = store
        self._pool = pool
        self._on_change = on_change
        self._authors: OrderedDict[str, None] = OrderedDict()
        self._holders: OrderedDict[str, None] = OrderedDict()
        self.topic = registry_topic(store.genesis.network_id)

    def holders(self) -> list[str]:
        """Return the peers that may have what a new version is made of, in a random order."""
        known = [*{**self._authors, **self._holders}]
        return random.sample(known, len(known))

    def on_executed(self) -> None:
        """Forget who brought what, once no change and no candidate waits."""
        known = self._authors or self._holders
        if known and not self._pool and not candidates(self._store.tree.view()):
            self._authors.clear()
            self._holders.clear()

    def check(self, peer_id: str, data: bytes) -> CheckAnswer:
        """Judge a message of the topic."""
        answer = self._pool.check(data)
        if answer is CheckAnswer.REJECT:
            return answer
        change = decode(RegistryChange, data)
        if self._waits(change):
            if not self._pool.is_signed(change):
                return CheckAnswer.REJECT
            _note(self._holders, peer_id, MAX_HOLDERS)
        if answer is CheckAnswer.ACCEPT:
            log.info(
                "the owner's change taken in",
                sequence=change.content.sequence,
                challenge=change.content.challenge.challenge_id,
                version=change.content.challenge.version,
            )
            self._on_change()
        return answer

    def _waits(self, change: RegistryChange) -> bool:
        mark = read(self._store.tree.view(), keys.RegistryMark, keys.REGISTRY)
        if mark is None or change.owner != mark.owner:
            return False
        if self._pool.state_of(digest_of(change.content))[0] == "held":
            return True
        digest = digest_of(change.content.challenge)
        return waiting(self._store.tree.view(), digest) is not None

    async def run(self) -> None:
        """Take changes in and repeat those that wait, for ever."""
        messages = await self._network.join(self.topic, self.check, max_bytes=MAX_CHANGE_BYTES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._note_authors, messages)
            nursery.start_soon(self._repeat)

    async def _note_authors(self, messages: trio.MemoryReceiveChannel[GossipMessage]) -> None:
        async for message in messages:
            _note(self._authors, message.author, MAX_AUTHORS)

    async def _repeat(self) -> None:
        while True:
            await trio.sleep(REPEAT_S)
            for change in self._pool.held():
                if not self._network.subscribers(self.topic):
                    break
                try:
                    await self._network.publish(self.topic, encode(change))
                except NetworkError as error:
                    log.warning("a change was not repeated", reason=str(error))


def _note(peers: OrderedDict[str, None], peer_id: str, limit: int) -> None:
    """Remember a peer as the newest; the oldest goes."""
    peers[peer_id] = None
    peers.move_to_end(peer_id)
    if len(peers) > limit:
        peers.popitem(last=False)
