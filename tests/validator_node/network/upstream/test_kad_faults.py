"""What breaks the stock DHT, and that it no longer does. Each test shows the fault first."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import varint
from libp2p.exceptions import BaseLibp2pError
from libp2p.kad_dht.common import PROTOCOL_ID
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.kad_dht.value_store import ValueStore
from libp2p.peer.id import ID

from tests.support import World
from tests.validator_node.dht_support import (
    DEADLINE_S,
    Records,
    dht_node,
    dht_nodes,
    dht_of,
    put_at,
)
from tests.validator_node.network.support import config, uncorrected, until
from validator_node.network import Network, open_network
from validator_node.network.dht_lookup import RecordNotFoundError
from validator_node.network.upstream import kad_inbound, kad_signed_records, kad_streams


@pytest.fixture
def records(world: World) -> Records:
    return Records(world)


async def raw_stream(sender: Network, receiver: Network) -> Any:
    with trio.fail_after(DEADLINE_S):
        return await sender._host.new_stream(ID.from_string(receiver.peer_id), [PROTOCOL_ID])


async def answered_beside_silent_streams(records: Records, folder: Path) -> bool:
    """Let a stranger open 13 streams and say nothing; return whether a put is taken."""
    async with dht_nodes(records, folder, 3) as (nodes, _):
        limiter = dht_of(nodes[0])._kad._inbound_limiter
        for _ in range(13):
            await raw_stream(nodes[2], nodes[0])
        await until(lambda: limiter.borrowed_tokens >= 12)
        return await put_at(nodes[1], nodes[0], *records.blob())


async def test_a_dozen_streams_do_not_silence_a_node(records: Records, tmp_path: Path) -> None:
    with uncorrected(kad_inbound):
        assert not await answered_beside_silent_streams(records, tmp_path / "stock")
    assert await answered_beside_silent_streams(records, tmp_path / "corrected")


async def replicas_of_concurrent_puts(records: Records, folder: Path) -> list[int]:
    """Put 40 values at one node at once, through the library; return which were taken."""
    async with dht_nodes(records, folder, 2) as (nodes, _):
        taken: list[int] = []

        async def put(number: int) -> None:
            if await put_at(nodes[0], nodes[1], *records.blob(bytes([number]))):
                taken.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(put, number)
        return sorted(taken)


async def test_concurrent_puts_are_all_taken(records: Records, tmp_path: Path) -> None:
    with uncorrected(kad_inbound):
        assert len(await replicas_of_concurrent_puts(records, tmp_path / "stock")) < 40
    assert await replicas_of_concurrent_puts(records, tmp_path / "corrected") == list(range(40))


async def test_sixty_puts_at_once_reach_all_seven_peers(records: Records, tmp_path: Path) -> None:
    async with dht_nodes(records, tmp_path, 8) as (nodes, holders):
        replicas: list[int] = []

        async def put(number: int) -> None:
            key, value = records.blob(bytes([number]))
            replicas.append(await dht_of(nodes[0]).put(key, value, deadline_s=120))

        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(put, number)
        assert replicas == [7] * 60
        assert [len(holder.kept) for holder in holders] == [60] * 8


async def test_a_silent_stream_is_reset_in_time(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kad_inbound, "STREAM_S", 0.2)
    async with dht_nodes(records, tmp_path, 2) as (nodes, _):
        limiter = dht_of(nodes[0])._kad._inbound_limiter
        await raw_stream(nodes[1], nodes[0])
        await until(lambda: nodes[0].counters["refused", "dht_slow_stream"] == 1)
        assert limiter.borrowed_tokens == 0


def frames() -> Iterator[bytes]:
    """Yield what no honest peer sends."""
    message = Message(type=Message.PUT_VALUE, key=b"\xff\xfe")
    message.record.key = b"\xff\xfe"
    message.record.value = b"x"
    unnamed = Message(type=Message.GET_VALUE, key=b"k" * 4_000)
    huge_id = Message(type=Message.FIND_NODE, key=b"\x12\x20" + bytes(32))
    huge_id.closerPeers.add().id = bytes(100_000)
    provider = Message(type=Message.ADD_PROVIDER, key=b"k")
    provider.providerPeers.add().id = b"not a peer id"
    forged = Message(type=Message.FIND_NODE, key=b"k" * 32, senderRecord=os.urandom(300))
    for known in (message, unnamed, huge_id, provider, forged, Message()):
        data = known.SerializeToString()
        yield varint.encode(len(data)) + data
    yield varint.encode(1 << 62)
    yield b"\xff" * 20
    yield varint.encode(200) + os.urandom(200)
    yield varint.encode(1_000) + b"half of it"
    yield b"\0" * 50


async def test_garbage_is_refused_and_leaves_nothing_behind(
    records: Records, tmp_path: Path
) -> None:
    async with dht_nodes(records, tmp_path, 2) as (nodes, holders):
        limiter = dht_of(nodes[0])._kad._inbound_limiter
        for frame in frames():
            stream = await raw_stream(nodes[1], nodes[0])
            await stream.write(frame)
            await stream.close_write()
        await until(lambda: limiter.borrowed_tokens == 0)
        assert await put_at(nodes[1], nodes[0], *records.blob())
        assert len(holders[0].kept) == 1
        assert nodes[0].counters["errors", "stream_handler"] == 0


class Silent:
    """A peer that takes part in the DHT, reads everything, and never answers."""

    def __init__(self) -> None:
        self.asked = self.open = 0
        self.peer_id = ""

    async def serve(self, stream: Any) -> None:
        self.asked += 1
        self.open += 1
        try:
            while await stream.read(4_096):
                pass
        except BaseLibp2pError:
            pass
        finally:
            self.open -= 1

    @asynccontextmanager
    async def beside(self, node: Network) -> AsyncIterator[None]:
        async with open_network(config(9)) as network:
            self.peer_id = network.peer_id
            network._host.set_stream_handler(PROTOCOL_ID, self.serve)
            network.add_bootstrap(node.addresses[0])
            with trio.fail_after(DEADLINE_S):
                await network.wait_connected(1)
                await node.wait_connected(1)
            yield


async def give_up(node: Network, silent: Silent, *, stock: bool) -> None:
    """Ask a peer that never answers three times, and give up each time."""
    store = dht_of(node)._kad.value_store
    if stock:
        store.host = node._host
    for _ in range(3):
        asked = silent.asked
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store._get_from_peer, ID.from_string(silent.peer_id), b"key")
                await until(lambda asked=asked: silent.asked == asked + 1)
                await trio.testing.wait_all_tasks_blocked(0.05)
                scope.cancel()


async def test_a_query_given_up_leaves_no_stream(records: Records, tmp_path: Path) -> None:
    silent = Silent()
    async with dht_node(records.book(), tmp_path / "a", 1) as (node, _), silent.beside(node):
        await give_up(node, silent, stock=True)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert silent.open == 3
    silent = Silent()
    async with dht_node(records.book(), tmp_path / "b", 1) as (node, _), silent.beside(node):
        await give_up(node, silent, stock=False)
        await until(lambda: silent.open == 0)


async def test_a_lookup_goes_on_without_a_silent_peer(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("validator_node.network.dht_lookup.ASK_S", 0.2)
    silent = Silent()
    async with dht_node(records.book(), tmp_path / "a", 1) as (node, _), silent.beside(node):
        with trio.fail_after(DEADLINE_S), pytest.raises(RecordNotFoundError, match="1 peers"):
            await dht_of(node).get(records.blob()[0], deadline_s=5)
        await until(lambda: silent.open == 0)


async def test_a_stream_the_peer_does_not_close_is_reset(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kad_streams, "LINGER_S", 0.1)
    monkeypatch.setattr(kad_streams, "SWEEP_S", 0.1)
    silent = Silent()
    async with dht_node(records.book(), tmp_path / "a", 1) as (node, _), silent.beside(node):
        host = dht_of(node)._host
        stream = await host.new_stream(ID.from_string(silent.peer_id), [PROTOCOL_ID])
        await stream.close()
        assert host.lingering == 1
        await until(lambda: host.lingering == 0 and stream.raw.muxed_stream.closed)


async def taken_after_the_clock_went_back(records: Records, folder: Path) -> bool:
    """Let the receiver know a later record of the sender than the one it sends."""
    async with dht_nodes(records, folder, 2) as (nodes, _):
        assert await put_at(nodes[0], nodes[1], *records.blob(b"first"))
        known = nodes[1]._host.get_peerstore().peer_record_map
        state = known[ID.from_string(nodes[0].peer_id)]
        state.seq += 1_000_000_000_000
        dht_of(nodes[1])._host.__dict__.pop("_verified_kad_records", None)
        return await put_at(nodes[0], nodes[1], *records.blob(b"second"))


async def test_a_clock_that_went_back_silences_nobody(records: Records, tmp_path: Path) -> None:
    with uncorrected(kad_signed_records):
        assert not await taken_after_the_clock_went_back(records, tmp_path / "stock")
    assert await taken_after_the_clock_went_back(records, tmp_path / "corrected")


async def test_values_lie_in_our_store_and_not_in_memory(records: Records, tmp_path: Path) -> None:
    key, value = records.blob()
    async with dht_nodes(records, tmp_path, 2) as (nodes, holders):
        stock = ValueStore(nodes[0]._host, nodes[0]._host.get_id())
        stock.put(key.encode(), value)
        assert len(stock.store) == 1
        assert await put_at(nodes[1], nodes[0], key, value)
        values = dht_of(nodes[0])._kad.value_store
        assert values.store == {}
        assert holders[0].kept.get(key) == value
        assert values.get(key.encode()).value == value
        assert values.has(key.encode())
        assert values.get(b"\xff\xfe") is None
