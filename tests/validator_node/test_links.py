"""Two validators over real libp2p: one honest with a real driver, the other one hostile."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from consensus.engine import Engine
from consensus.messages import Vote
from protocol.codec import encode
from protocol.identity import verify_consensus
from tests.support import World
from validator_node.batch_check import Checker
from validator_node.consensus_driver import ConsensusDriver
from validator_node.inbound import PEER_QUEUE
from validator_node.journal_bridge import SigningJournal
from validator_node.links import CONSENSUS_PROTOCOL, ConsensusLinks
from validator_node.network.network import Network, NetworkConfig, open_network
from validator_node.network.scores import LIMIT
from validator_node.outbox import Outbox
from validator_node.peers import Peers
from validator_node.statements import StatementPool
from validator_node.store import Store

DEADLINE_S = 20
ME, HOSTILE = 0, 1
SEEDS = (bytes([7]) * 32, bytes([8]) * 32)


def config(seed: bytes, *bootstrap: str) -> NetworkConfig:
    return NetworkConfig(seed=seed, listen_host="127.0.0.1", listen_port=0, bootstrap=bootstrap)


class Watched(Counter[str]):
    """A counter one can wait for."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = trio.Event()

    def __setitem__(self, key: str, value: int) -> None:
        super().__setitem__(key, value)
        self._changed.set()
        self._changed = trio.Event()

    async def reach(self, key: str, count: int) -> None:
        with trio.fail_after(DEADLINE_S):
            while self[key] < count:
                await self._changed.wait()


class Honest:
    """Validator 0, put together as `validator_node.node` does it."""

    def __init__(self, world: World, network: Network, folder: Path) -> None:
        key = world.keys[ME]
        self.network = network
        self.store = Store.open(folder / "db", world.genesis, create=True)
        self.journal = SigningJournal(
            folder / "journal", folder / "marker", key.public_key, create=True
        )
        engine = Engine(
            world.voters,
            ME,
            sign=key.sign,
            verify=verify_consensus,
            parameters=world.genesis.parameters,
            genesis_digest=world.network_id,
        )
        record = encode(world.node_record(ME, network.peer_id))
        peers = Peers(world.voters, world.network_id)
        self.links = ConsensusLinks(peers, record, frozenset())
        size = len(world.voters)
        self.driver = ConsensusDriver(
            engine,
            self.store,
            self.journal,
            Checker(world.voters, world.network_id),
            StatementPool(size),
            Outbox(size, ME, self.links.send_frame),
        )
        self.links.refused = self.links_refused = Watched()
        self.driver.refused = self.driver_refused = Watched()
        self.links.open(network, self.driver)


@asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[tuple[Honest, Network, Callable[[bytes], None]]]:
    """Yield the honest node, the hostile one's network, and how it sends a frame."""
    world = World()
    async with open_network(config(SEEDS[0])) as network:
        honest = Honest(world, network, folder)
        async with (
            open_network(config(SEEDS[1], network.addresses[0])) as hostile,
            trio.open_nursery() as nursery,
        ):
            record = encode(world.node_record(HOSTILE, hostile.peer_id))

            async def admit(_: str, __: bytes) -> bool:
                return True

            links = hostile.open_links(
                CONSENSUS_PROTOCOL,
                on_frame=lambda *_: None,
                hello=lambda: record,
                on_hello=admit,
            )
            nursery.start_soon(honest.driver.run)
            nursery.start_soon(honest.links.run)
            with trio.fail_after(DEADLINE_S):
                await links.wait_up(1)
            yield honest, hostile, lambda frame: links.send(network.peer_id, frame)
            nursery.cancel_scope.cancel()
    honest.journal.close()
    honest.store.close()


def forged_vote(seq: int) -> Vote:
    return Vote(
        kind="prepare",
        epoch=0,
        view=0,
        seq=seq,
        digest=bytes(32),
        signer=HOSTILE,
        signature=bytes(64),
    )


async def test_forged_votes_are_counted_and_their_sender_is_banned(tmp_path: Path) -> None:
    async with pair(tmp_path) as (honest, hostile, send):
        send(encode([forged_vote(seq) for seq in range(1, int(LIMIT) + 20)]))
        await honest.links_refused.reach("banned", 1)
        assert honest.driver_refused["bad_signature"] >= LIMIT
        with trio.fail_after(DEADLINE_S):
            await honest.network.wait_lost(hostile.peer_id)
            # It dials again, and is refused before it can say a word.
            while not honest.network.counters["refused", "banned_peer"]:
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert set(honest.network.bans()) == {hostile.peer_id}
        assert hostile.peer_id not in honest.network.peers()
        assert honest.links_refused["banned"] == 1
        assert honest.store.height == 0


@pytest.mark.parametrize("garbage", [b"", b"\xc1", b"garbage", bytes(100)])
async def test_a_frame_that_is_not_canonical_changes_nothing(
    tmp_path: Path, garbage: bytes
) -> None:
    async with pair(tmp_path) as (honest, _, send):
        send(garbage)
        await honest.links_refused.reach("malformed", 1)
        assert not honest.driver_refused


async def test_a_flood_waits_in_the_senders_own_queue(tmp_path: Path) -> None:
    async with pair(tmp_path) as (honest, _, send):
        stale = [forged_vote(0)] * 4 * PEER_QUEUE
        for _ in range(8):
            send(encode(stale))
        await honest.driver_refused.reach("stale", 8 * len(stale))
        assert set(honest.driver_refused) == {"stale"}
        assert not honest.links_refused
