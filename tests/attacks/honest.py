"""The honest users of a network under attack, in a process of their own.

    python -m tests.attacks.honest SPEC.json

Miners are the product's own; subscribers are peers that join the submissions' topics and forward
like anybody; a clerk asks the nodes what became of each submission, as a miner would. Everything
is told in JSON lines, `Told`, twice a second; the end of the input ends the process.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec
import trio

from protocol.codec import decode
from protocol.errors import ProtocolError
from protocol.records.submission import PostedSubmission, SubmissionMessage, submission_topic
from validator_node.config import load_genesis
from validator_node.logs import configure
from validator_node.miner import Miner, MinerConfig
from validator_node.network import CheckAnswer, Network, NetworkConfig, NetworkError, open_network
from validator_node.queries import (
    MAX_RECEIPT_REPLY_BYTES,
    RECEIPT_PROTOCOL,
    STATUS_PROTOCOL,
    ReceiptReply,
)

HOST = "127.0.0.1"
TELL_S = 0.5
CLERK_S = 0.2
ASKED_AT_ONCE = 16
ASK_DEADLINE_S = 10.0
PROBE_S = 1.0
PROBES = 3
"""Requests that one peer makes at once, as whoever has several things to ask does."""
STATES = ("unknown", "refused", "fetching", "waiting", "pending", "uncertified", "ended")
FINAL = frozenset({"uncertified", "ended"})


class MinerSpec(msgspec.Struct, frozen=True):
    """One miner."""

    seed: str
    bootstrap: list[str]
    skill: int = 1
    per_message: int = 2
    interval_s: float = 1.0
    body_bytes: int = 0


class Spec(msgspec.Struct, frozen=True):
    """What the process is told."""

    genesis: str
    folder: str
    nodes: list[str]
    """Addresses of the nodes that the clerk asks; the first is also probed for answers."""
    miners: list[MinerSpec] = []
    subscribers: list[str] = []
    """The address of the one node that each subscriber knows."""


class Told(msgspec.Struct):
    """News since the last line; ids are hexadecimal, times of the monotonic clock."""

    peers: list[str] = []
    """Honest peer ids."""
    published: list[tuple[str, float, int]] = []
    """(id, when, bytes of the body)"""
    ended: list[tuple[str, float, str, str]] = []
    """(id, when, state, reason)"""
    ready: list[tuple[int, float]] = []
    """(subscriber, when it was connected and its node knew what it subscribes)"""
    heard: list[tuple[int, str]] = []
    """(subscriber, id)"""
    probes: list[tuple[float, bool]] = []
    """(when, whether it was answered)"""


class Recorder(Miner):
    """The product's miner, and the bytes of what it made."""

    def __init__(self, config: MinerConfig, sizes: dict[str, int]) -> None:
        super().__init__(config)
        self._sizes = sizes

    def make(self, challenge_id: str, epoch: int) -> tuple[PostedSubmission, bytes]:
        posted, body = super().make(challenge_id, epoch)
        self._sizes[posted.signed.submission.submission_id.hex()] = len(body)
        return posted, body


class Users:
    """All of them."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.genesis = load_genesis(Path(spec.genesis))
        self.told = Told()
        self.sizes: dict[str, int] = {}
        self.open: dict[str, tuple[str, str]] = {}
        """id -> (state, reason) as last told"""
        self.states: Counter[str] = Counter()
        self.topics = [
            submission_topic(self.genesis.network_id, entry.challenge_id)
            for entry in self.genesis.challenges
        ]

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell)
            for number, address in enumerate(self.spec.subscribers):
                nursery.start_soon(self._subscribe, number, address)
            for number, entry in enumerate(self.spec.miners):
                nursery.start_soon(self._mine, number, entry)
            if self.spec.miners:
                nursery.start_soon(self._ask)
            stdin = trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))
            while await stdin.receive_some(100):
                pass
            nursery.cancel_scope.cancel()
        self._say()

    async def _tell(self) -> None:
        while True:
            await trio.sleep(TELL_S)
            self._say()

    def _say(self) -> None:
        told, self.told = self.told, Told()
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
        sys.stdout.flush()

    # --- miners and what becomes of their submissions --------------------------------------------

    async def _mine(self, number: int, entry: MinerSpec) -> None:
        miner = Recorder(
            MinerConfig(
                seed=bytes.fromhex(entry.seed),
                genesis=self.genesis,
                bootstrap=tuple(entry.bootstrap),
                skill=entry.skill,
                per_message=entry.per_message,
                interval_s=entry.interval_s,
                listen_host=HOST,
                report=Path(self.spec.folder) / f"honest-{number}.json",
                body_bytes=entry.body_bytes,
            ),
            self.sizes,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(miner.run, trio.Event())
            known = 0
            while True:
                await trio.sleep(0.05)
                every = list(miner.report.submitted)
                for submission_id in every[known:]:
                    row = (submission_id, time.monotonic(), self.sizes.get(submission_id, 0))
                    self.told.published.append(row)
                    self.open[submission_id] = ("unknown", "")
                known = len(every)

    async def _ask(self) -> None:
        """Ask for what is open, the longest unasked first; and see whether peers are answered."""
        config = NetworkConfig(
            seed=secrets.token_bytes(32),
            listen_host=HOST,
            listen_port=0,
            bootstrap=tuple(self.spec.nodes),
        )
        async with open_network(config) as network, trio.open_nursery() as nursery:
            self.told.peers.append(network.peer_id)
            await network.wait_connected(len(self.spec.nodes))
            nursery.start_soon(self._probe, network)
            while True:
                await trio.sleep(CLERK_S)
                chosen = list(self.open)[:ASKED_AT_ONCE]
                async with trio.open_nursery() as asking:
                    for submission_id in chosen:
                        asking.start_soon(self._ask_one, network, submission_id)

    async def _ask_one(self, network: Network, submission_id: str) -> None:
        """Ask the nodes in any order until one knows it; who has only refused it counts last."""
        peers = [address.rsplit("/p2p/", 1)[-1] for address in self.spec.nodes]
        best = ("unknown", "")
        for peer_id in random.sample(peers, len(peers)):
            try:
                data = await network.request(
                    peer_id,
                    RECEIPT_PROTOCOL,
                    bytes.fromhex(submission_id),
                    deadline_s=ASK_DEADLINE_S,
                    max_reply_bytes=MAX_RECEIPT_REPLY_BYTES,
                )
                reply = decode(ReceiptReply, data)
            except (NetworkError, ProtocolError):
                continue
            if STATES.index(reply.state) > STATES.index(best[0]):
                best = (reply.state, reply.reason)
            if reply.state not in {"unknown", "refused"}:
                break
        if self.open.pop(submission_id, best) != best or best[0] in FINAL:
            self.told.ended.append((submission_id, time.monotonic(), *best))
        if best[0] not in FINAL:
            self.open[submission_id] = best

    async def _probe(self, network: Network) -> None:
        """Ask the first node several things at once, again and again."""
        peer_id = self.spec.nodes[0].rsplit("/p2p/", 1)[-1]

        async def ask() -> None:
            began = time.monotonic()
            try:
                await network.request(
                    peer_id,
                    STATUS_PROTOCOL,
                    b"",
                    deadline_s=ASK_DEADLINE_S,
                    max_reply_bytes=MAX_RECEIPT_REPLY_BYTES,
                )
            except NetworkError:
                self.told.probes.append((began, False))
            else:
                self.told.probes.append((began, True))

        while True:
            async with trio.open_nursery() as nursery:
                for _ in range(PROBES):
                    nursery.start_soon(ask)
            await trio.sleep(PROBE_S)

    # --- subscribers ---------------------------------------------------------------------------

    async def _subscribe(self, number: int, address: str) -> None:
        config = NetworkConfig(
            seed=secrets.token_bytes(32), listen_host=HOST, listen_port=0, bootstrap=(address,)
        )
        async with open_network(config) as network, trio.open_nursery() as nursery:
            self.told.peers.append(network.peer_id)
            for topic in self.topics:
                messages = await network.join(topic, lambda *_: CheckAnswer.ACCEPT)
                nursery.start_soon(self._hear, number, messages)
            await network.wait_connected(1)
            for topic in self.topics:
                await network.wait_subscriber(topic)
            self.told.ready.append((number, time.monotonic()))
            await trio.sleep_forever()

    async def _hear(self, number: int, messages: trio.MemoryReceiveChannel) -> None:
        async for message in messages:
            try:
                posted = decode(SubmissionMessage, message.data).posted
            except ProtocolError:
                continue
            for entry in posted:
                submission_id = entry.signed.submission.submission_id.hex()
                self.told.heard.append((number, submission_id))


if __name__ == "__main__":
    configure(None, logging.WARNING)
    trio.run(Users(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Spec)).run)
