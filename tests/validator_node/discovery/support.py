"""Nodes that discover each other, on loopback."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from protocol.codec import digest_of
from protocol.envelope import RecordKind, record_payload
from protocol.records.validators import NodeRecord, SignedNodeRecord
from tests.support import World
from tests.validator_node.network.support import config
from validator_node.discovery.book import AddressBook
from validator_node.discovery.service import Discovery, DiscoveryConfig, SignRecord
from validator_node.network import Network, open_network
from validator_node.network.mdns import LocalPeers

WORLD = World()


class Memory:
    """Keeps the book over a restart."""

    def __init__(self) -> None:
        self.data: bytes | None = None

    def load(self) -> bytes | None:
        return self.data

    def save(self, data: bytes) -> None:
        self.data = data


def signer(index: int, peer_id: str, world: World = WORLD) -> SignRecord:
    def sign(addresses: tuple[str, ...], sequence: int) -> SignedNodeRecord:
        record = NodeRecord(
            hotkey=world.hotkeys[index].public_key,
            consensus_key=world.keys[index].public_key,
            peer_id=peer_id,
            addresses=addresses,
            sequence=sequence,
        )
        payload = record_payload(RecordKind.NODE_RECORD, world.network_id, digest_of(record))
        return SignedNodeRecord(record=record, signature=world.hotkeys[index].sign(payload))

    return sign


class Running:
    """A network with its discovery."""

    def __init__(self, network: Network, discovery: Discovery) -> None:
        self.network = network
        self.discovery = discovery

    def knows(self, other: Running) -> bool:
        """Tell whether the other's present addresses are in the book."""
        key = other.discovery.record.record.hotkey
        entry = self.discovery.book.get(key)
        return entry is not None and entry.signed.record.addresses == other.network.addresses


@asynccontextmanager
async def discovering(
    index: int,
    *bootstrap: str,
    port: int = 0,
    peer_exchange: bool = True,
    saved: Memory | None = None,
    is_neuron: Callable[[bytes], bool] = lambda _: False,
    local: Callable[[Network], LocalPeers] | None = None,
    world: World = WORLD,
) -> AsyncIterator[Running]:
    """Run validator `index` of the world; its peer id follows from the index."""
    async with (
        open_network(config(index + 1, *bootstrap, port=port)) as network,
        trio.open_nursery() as nursery,
    ):
        discovery = Discovery(
            network,
            AddressBook(
                WORLD.network_id,
                world.hotkeys[index].public_key,
                is_neuron=is_neuron,
                now=time.time,
            ),
            WORLD.voters,
            signer(index, network.peer_id, world),
            DiscoveryConfig(
                network_id=WORLD.network_id,
                listen_host="127.0.0.1",
                bootstrap=bootstrap,
                peer_exchange=peer_exchange,
            ),
            saved or Memory(),
            local(network) if local else None,
        )
        nursery.start_soon(discovery.run)
        yield Running(network, discovery)
        nursery.cancel_scope.cancel()
