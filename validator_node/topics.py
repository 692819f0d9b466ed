"""The gossip topics of submissions: one for each active challenge, joined when it is activated.

A retired challenge's topic stays joined until the node ends: a neighbour that does not know yet
would pay for each message it still forwards on a topic that we have left.
"""

from __future__ import annotations

import trio

from validator_node.intake import MAX_MESSAGE_BYTES, Intake
from validator_node.network.gossip import GossipMessage
from validator_node.network.network import Network


class SubmissionTopics:
    """Takes the submissions in that come on the topics of the active challenges."""

    def __init__(self, network: Network, intake: Intake) -> None:
        self._network = network
        self._intake = intake
        self._changed = trio.Event()
        self.joined: set[str] = set()

    def reconsider(self) -> None:
        """Look again which challenges are active."""
        self._changed.set()

    async def run(self) -> None:
        """Take submissions in for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                self._changed = trio.Event()
                for topic in self._intake.topics():
                    if topic not in self.joined:
                        self.joined.add(topic)
                        nursery.start_soon(self._take, await self._join(topic))
                await self._changed.wait()

    async def _join(self, topic: str) -> trio.MemoryReceiveChannel[GossipMessage]:
        return await self._network.join(
            topic,
            lambda peer_id, data: self._intake.check(topic, data, peer_id),
            max_bytes=MAX_MESSAGE_BYTES,
            glance=self._intake.glance,
        )

    async def _take(self, messages: trio.MemoryReceiveChannel[GossipMessage]) -> None:
        async for message in messages:
            self._intake.on_delivered(message.data, message.author)
