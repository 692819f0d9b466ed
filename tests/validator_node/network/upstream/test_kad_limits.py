"""Bounds of the DHT's tables and messages; each test shows the stock value first."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import libp2p.kad_dht.peer_routing as routing_module
import multiaddr
import pytest
import trio
import varint
from libp2p.io.exceptions import IncompleteReadError, MessageTooLarge
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.kad_dht.provider_store import ProviderStore
from libp2p.kad_dht.routing_table import RoutingTable
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo

from tests.validator_node.network.support import uncorrected
from validator_node.network.counters import Counters, attach
from validator_node.network.upstream import (
    kad_inbound,
    kad_messages,
    kad_peers,
    kad_providers,
)
from validator_node.network.upstream.kad_messages import trimmed

ADDRESS = multiaddr.Multiaddr("/ip4/192.0.2.1/tcp/4001")


class Host:
    """As much of a host as the tables ask of it."""

    def __init__(self, connected: Iterable[ID] = ()) -> None:
        self.connected = list(connected)
        self.counters = Counters()
        self.handlers: dict[str, Any] = {}
        attach(self, self.counters)

    def get_id(self) -> ID:
        return ID(b"\x12\x20" + bytes(32))

    def get_connected_peers(self) -> list[ID]:
        return self.connected

    def get_peerstore(self) -> Host:
        return self

    def get_protocols(self, peer_id: ID) -> list[str]:
        return ["/other/1"] if peer_id == CLIENT else []

    def addrs(self, peer_id: ID) -> list[multiaddr.Multiaddr]:
        return [ADDRESS]

    def set_stream_handler(self, protocol: str, handler: Any) -> None:
        self.handlers[protocol] = handler


def new_peer() -> ID:
    return ID(b"\x12\x20" + os.urandom(32))


CLIENT = new_peer()


async def test_handlers_are_256_not_12() -> None:
    with uncorrected(kad_inbound):
        assert KadDHT(Host(), DHTMode.SERVER)._inbound_limiter.total_tokens == 12
    assert KadDHT(Host(), DHTMode.SERVER)._inbound_limiter.total_tokens == 256


async def filled_table(host: Host, count: int) -> RoutingTable:
    table = RoutingTable(host.get_id(), host)
    for _ in range(count):
        await table.add_peer(PeerInfo(new_peer(), [ADDRESS]))
    return table


async def test_the_routing_table_is_bounded_and_the_absent_make_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kad_peers, "MAX_TABLE", 40)
    with uncorrected(kad_peers):
        assert (await filled_table(Host(), 200)).size() > 100
    host = Host()
    table = await filled_table(host, 200)
    assert table.size() <= 40
    host.connected = table.get_peer_ids()
    while table.size() < 40:
        peer = new_peer()
        host.connected.append(peer)
        await table.add_peer(PeerInfo(peer, [ADDRESS]))
    newcomer = new_peer()
    assert not await table.add_peer(PeerInfo(newcomer, [ADDRESS]))
    assert host.counters["dropped", "dht_routing_table"] >= 1
    host.connected.pop()
    assert await table.add_peer(PeerInfo(newcomer, [ADDRESS]))


async def test_a_client_that_opens_a_stream_is_no_server() -> None:
    with uncorrected(kad_peers):
        dht = KadDHT(Host(), DHTMode.SERVER)
        assert await dht.add_peer(CLIENT, skip_server_mode_check=True)
    dht = KadDHT(Host(), DHTMode.SERVER)
    assert not await dht.add_peer(CLIENT, skip_server_mode_check=True)
    assert await dht.add_peer(new_peer(), skip_server_mode_check=True)


async def test_a_full_bucket_waits_for_nobody() -> None:
    """The stock bucket pings its oldest peer; here there is no network to ping with."""
    host = Host()
    table = RoutingTable(host.get_id(), host)
    (bucket,) = table.buckets
    for _ in range(bucket.bucket_size):
        await bucket.add_peer(PeerInfo(new_peer(), [ADDRESS]))
    host.connected = table.get_peer_ids()
    newcomer = PeerInfo(new_peer(), [ADDRESS])
    with uncorrected(kad_peers):
        oldest = bucket.get_oldest_peer()
        assert await bucket.add_peer(PeerInfo(new_peer(), [ADDRESS]))
        assert not bucket.has_peer(oldest)  # the ping failed, though the peer is connected
    host.connected = table.get_peer_ids()
    assert not await bucket.add_peer(newcomer)
    host.connected.remove(bucket.get_oldest_peer())
    assert await bucket.add_peer(newcomer)


def provider_keys(store: ProviderStore, peers: list[ID], count: int) -> int:
    for number in range(count):
        info = PeerInfo(peers[number % len(peers)], [ADDRESS])
        store.add_provider(number.to_bytes(4, "big"), info)
    return len(store.providers)


def test_provider_records_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kad_providers, "MAX_KEYS", 50)
    monkeypatch.setattr(kad_providers, "MAX_KEYS_PER_PROVIDER", 20)
    peers = [new_peer() for _ in range(10)]
    with uncorrected(kad_providers):
        assert provider_keys(ProviderStore(Host()), peers, 200) == 200
    host = Host()
    assert provider_keys(ProviderStore(host), peers, 100) == 50
    assert host.counters["dropped", "dht_provider_keys"] == 50
    host = Host()
    store = ProviderStore(host)
    assert provider_keys(store, peers[:1], 100) == 20
    assert host.counters["dropped", "dht_providers"] == 80
    store.add_provider((0).to_bytes(4, "big"), PeerInfo(peers[0], [ADDRESS]))  # a renewal
    assert host.counters["dropped", "dht_providers"] == 80


class Reader:
    """A stream with fixed content, and nothing after it."""

    def __init__(self, data: bytes, remote: str = "127.0.0.1") -> None:
        self._data = data
        self._remote = remote

    async def read(self, size: int) -> bytes:
        if not self._data:
            await trio.sleep_forever()
        data, self._data = self._data[:size], self._data[size:]
        return data

    def get_remote_address(self) -> tuple[str, int]:
        return self._remote, 4001


def framed(message: Message) -> bytes:
    data = message.SerializeToString()
    return bytes(varint.encode(len(data))) + data


async def read(reader: Reader) -> Message:
    data = await routing_module.read_varint_prefixed_bytes_limited(reader, 4 * 1024 * 1024)
    message = Message()
    message.ParseFromString(data)
    return message


def crowd(peers: int, addresses: int) -> Message:
    message = Message(type=Message.FIND_NODE)
    for _ in range(peers):
        peer = message.closerPeers.add(id=new_peer().to_bytes())
        peer.addrs.extend([ADDRESS.to_bytes()] * addresses)
    return message


async def test_a_message_names_a_bounded_number_of_peers() -> None:
    data = framed(crowd(300, 40))
    with uncorrected(kad_messages):
        stock = await read(Reader(data))
        assert (len(stock.closerPeers), len(stock.closerPeers[0].addrs)) == (300, 40)
    ours = await read(Reader(data))
    assert (len(ours.closerPeers), len(ours.closerPeers[0].addrs)) == (20, 16)


async def test_a_message_is_bounded_in_bytes() -> None:
    data = framed(Message(type=Message.PUT_VALUE, key=bytes(1_000_000)))
    with uncorrected(kad_messages):
        assert len((await read(Reader(data))).key) == 1_000_000
    with pytest.raises(MessageTooLarge):
        await read(Reader(data))


async def test_half_a_message_is_not_waited_for_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with uncorrected(kad_messages), trio.move_on_after(3_600) as scope:
        await read(Reader(b"\x7fhalf"))
    assert scope.cancelled_caught
    with pytest.raises(IncompleteReadError, match="in time"):
        await read(Reader(b"\x7fhalf"))


@pytest.mark.parametrize(
    ("remote", "kept"), [("8.8.8.8", 2), ("127.0.0.1", 4), ("10.0.0.1", 4), ("nonsense", 4)]
)
async def test_a_public_peer_sends_nobody_to_private_addresses(remote: str, kept: int) -> None:
    message = Message(type=Message.FIND_NODE)
    peer = message.closerPeers.add(id=new_peer().to_bytes())
    for text in (
        *("/ip4/127.0.0.1/tcp/1", "/ip4/10.1.2.3/tcp/1"),
        *("/ip4/1.1.1.1/tcp/1", "/dns4/example.com/tcp/1"),
    ):
        peer.addrs.append(multiaddr.Multiaddr(text).to_bytes())
    peer.addrs.append(b"garbage")
    peer.addrs.append(multiaddr.Multiaddr("/ip4/1.1.1.1/tcp/1" + "/p2p-circuit" * 200).to_bytes())
    with uncorrected(kad_messages):
        assert len((await read(Reader(framed(message), remote))).closerPeers[0].addrs) == 6
    assert len((await read(Reader(framed(message), remote))).closerPeers[0].addrs) == kept


def test_what_is_within_the_bounds_or_garbage_passes_as_it_is() -> None:
    honest = crowd(20, 16).SerializeToString()
    for data in (honest, b"\xff\xff\xff", b""):
        assert trimmed(data, from_public=False) == data
