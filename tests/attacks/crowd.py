"""Many honest miners at once, over a few connections: what `burst` and `overload` load nodes with.

Each hotkey signs and publishes as the product's miner does: it asks a node's status before each
message, and afterwards what became of it. An *obedient* one waits as long as it is told, and
publishes again what was refused as `busy`; another publishes at its rate whatever it is told.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio

from protocol.codec import decode, encode
from protocol.errors import ProtocolError
from protocol.records.submission import PostedSubmission, SubmissionMessage, submission_topic
from tests.attacks.hostile import tell
from validator_node.config import load_genesis
from validator_node.miner import Miner, MinerConfig
from validator_node.network import Network, NetworkConfig, NetworkError, open_network
from validator_node.queries import (
    MAX_RECEIPT_REPLY_BYTES,
    RECEIPT_PROTOCOL,
    STATUS_PROTOCOL,
    NodeStatus,
    ReceiptReply,
)

NETWORKS = 8
PER_MESSAGE = 4
DEADLINE_S = 10.0
FIRST_LOOK_S = 3.0
LOOK_FACTOR = 1.6
LONGEST_LOOK_S = 15.0
AGAIN_S = 2.0
"""How long an obedient miner waits that is told `busy` without a time."""
TELL_S = 0.5


class Crowd:
    """The miners of one process; `counts` are of submissions, but for `busy_timed` and others."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.genesis = load_genesis(Path(settings["genesis"]))
        self.nodes: list[str] = settings["nodes"]
        self.seeds: list[str] = settings["seeds"]
        self.per_s: float = settings["per_s"]
        self.seconds: float = settings["seconds"]
        self.obedient: bool = settings["obedient"]
        self.counts: Counter[str] = Counter()
        self.delays: list[float] = []
        self.names = [entry.challenge_id for entry in self.genesis.challenges]

    async def run(self) -> None:
        """Publish everything, follow it, and tell."""
        async with AsyncExitStack() as stack, trio.open_nursery() as telling:
            networks = []
            for number in range(NETWORKS):
                first = number % len(self.nodes)
                known = (self.nodes[first:] + self.nodes)[:2]
                config = NetworkConfig(
                    seed=os.urandom(32),
                    listen_host="127.0.0.1",
                    listen_port=0,
                    bootstrap=tuple(known),
                )
                networks.append((await stack.enter_async_context(open_network(config)), known))
            for network, known in networks:
                await network.wait_connected(len(known))
                for name in self.names:
                    await network.wait_subscriber(submission_topic(self.genesis.network_id, name))
            tell(ready=True)
            telling.start_soon(self._tell)
            async with trio.open_nursery() as nursery:
                began = trio.current_time()
                for number, seed in enumerate(self.seeds):
                    network, known = networks[number % NETWORKS]
                    nursery.start_soon(
                        self._hotkey, number, seed, network, known[0], began, nursery
                    )
            self._say()
            tell(done=True)
            await trio.sleep_forever()

    async def _tell(self) -> None:
        while True:
            await trio.sleep(TELL_S)
            self._say()

    def _say(self) -> None:
        tell(counts=dict(self.counts), delays=sorted(self.delays))

    async def _hotkey(
        self, number: int, seed: str, network: Network, node: str, began: float, following: Any
    ) -> None:
        """Publish one hotkey's share of the whole rate."""
        config = MinerConfig(
            seed=bytes.fromhex(seed),
            genesis=self.genesis,
            bootstrap=(node,),
            skill=number % 4,
            per_message=PER_MESSAGE,
            interval_s=1.0,
            listen_host="127.0.0.1",
            report=Path(os.devnull),
        )
        miner = Miner(config)
        peer_id = node.rsplit("/p2p/", 1)[-1]
        every_s = len(self.seeds) * PER_MESSAGE / self.per_s
        due = began + every_s * number / len(self.seeds)
        turn = number
        while due < began + self.seconds:
            await trio.sleep_until(due)
            due += every_s
            name = self.names[turn % len(self.names)]
            turn += 1
            epoch = await self._epoch(network, peer_id)
            if epoch is None:
                self.counts["unanswered"] += PER_MESSAGE
                continue
            posted = [miner.make(name, epoch)[0] for _ in range(PER_MESSAGE)]
            if await self._publish(network, name, posted):
                self.counts["published"] += PER_MESSAGE
                following.start_soon(self._follow, network, peer_id, name, posted)

    async def _epoch(self, network: Network, peer_id: str) -> int | None:
        """Return the epoch as the node tells it, as soon as it takes submissions."""
        while True:
            try:
                data = await network.request(
                    peer_id,
                    STATUS_PROTOCOL,
                    b"",
                    deadline_s=DEADLINE_S,
                    max_reply_bytes=MAX_RECEIPT_REPLY_BYTES,
                )
                status = decode(NodeStatus, data)
            except (NetworkError, ProtocolError):
                if not self.obedient:
                    return None
                await trio.sleep(AGAIN_S)
                continue
            wait_s = getattr(status, "retry_after_s", 0)
            if wait_s:
                self.counts["told_to_wait"] += 1
            if not wait_s or not self.obedient:
                return status.epoch
            await trio.sleep(wait_s)

    async def _publish(
        self, network: Network, name: str, posted: Sequence[PostedSubmission]
    ) -> bool:
        topic = submission_topic(self.genesis.network_id, name)
        try:
            await network.publish(topic, encode(SubmissionMessage(posted=tuple(posted))))
        except NetworkError:
            return False
        return True

    async def _follow(
        self, network: Network, peer_id: str, name: str, posted: list[PostedSubmission]
    ) -> None:
        """Ask what became of a message's first submission until that is known."""
        began, look_s = trio.current_time(), FIRST_LOOK_S
        submission_id = posted[0].signed.submission.submission_id
        last = ""
        while trio.current_time() < began + 6 * self.seconds:
            await trio.sleep(look_s)
            look_s = min(LONGEST_LOOK_S, look_s * LOOK_FACTOR)
            try:
                data = await network.request(
                    peer_id,
                    RECEIPT_PROTOCOL,
                    submission_id,
                    deadline_s=DEADLINE_S,
                    max_reply_bytes=MAX_RECEIPT_REPLY_BYTES,
                )
                reply = decode(ReceiptReply, data)
            except (NetworkError, ProtocolError):
                continue
            last = reply.state
            if reply.state in {"ended", "uncertified"}:
                self.delays.append(round(trio.current_time() - began, 2))
                self.counts["followed_to_the_end"] += PER_MESSAGE
                return
            if reply.state == "refused":
                wait_s = getattr(reply, "retry_after_s", 0)
                self.counts[f"refused {reply.reason}{' with a time' if wait_s else ''}"] += 1
                if not self.obedient or reply.reason != "busy":
                    return
                await trio.sleep(wait_s or AGAIN_S)
                await self._publish(network, name, posted)
                look_s = FIRST_LOOK_S
        self.counts[f"left {last or 'unanswered'}"] += PER_MESSAGE
