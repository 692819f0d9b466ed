"""Discovery over a node's own store, configuration and keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.codec import sha256
from protocol.identity import ConsensusKey
from tests.support import STRANGER, World
from tests.validator_node.discovery.test_book import signed_by
from tests.validator_node.network.support import config as network_config
from validator_node.config import NodeConfig
from validator_node.discovery.assembly import SavedBook, local_peers, make_discovery
from validator_node.discovery.book import RecordRefusedError
from validator_node.discovery.service import Discovery
from validator_node.keys import Keys
from validator_node.network import Network, open_network, peer_id_of
from validator_node.store import Store

PEER = peer_id_of(bytes([9]) * 32)


def node_config(folder: Path, **changes: object) -> NodeConfig:
    paths = {name: folder / name for name in ("genesis", "keystore", "state_dir", "chain_dir")}
    return NodeConfig(**paths, **changes)


def make(world: World, store: Store, network: Network, folder: Path) -> Discovery:
    keys = Keys(world.hotkeys[0], world.keys[0], bytes([1]) * 32)
    return make_discovery(
        node_config(folder), world.genesis, keys, network, store, store.voters_of(0)
    )


async def test_the_book_lies_in_the_database(world: World, store: Store, tmp_path: Path) -> None:
    async with open_network(network_config(1)) as network:
        first = make(world, store, network, tmp_path)
        assert first.record.record.peer_id == network.peer_id
        assert first.record.record.addresses == network.addresses
        first.record.verify(world.network_id)
        first.book.take(world.node_record(1, PEER), PEER)
        first.save()
        again = make(world, store, network, tmp_path)
        assert [entry.peer_id for entry in again.book.members()] == [PEER]
        assert again.record.record.sequence > first.record.record.sequence
        assert SavedBook(store.database).load() == first.book.dump()


async def test_a_key_that_the_state_does_not_know_asks_to_be_taken_in(
    world: World, store: Store, tmp_path: Path
) -> None:
    fresh = ConsensusKey(sha256(b"fresh"))
    keys = Keys(world.hotkeys[0], fresh, bytes([1]) * 32)
    async with open_network(network_config(1)) as network:
        known = make(world, store, network, tmp_path)
        assert known.record.record.key is None
        made = make_discovery(
            node_config(tmp_path), world.genesis, keys, network, store, store.voters_of(0)
        )
        record = made.record.record
        assert record.key is not None
        record.key.verify(world.network_id)
        binding = record.key.binding
        assert (binding.hotkey, binding.consensus_key) == (record.hotkey, fresh.public_key)
        world.decide(store, world.statement(0, record.key))
        again = make_discovery(
            node_config(tmp_path), world.genesis, keys, network, store, store.voters_of(0)
        )
        assert again.record.record.key is None


async def test_neurons_are_looked_up_in_the_state(
    world: World, store: Store, tmp_path: Path
) -> None:
    async with open_network(network_config(1)) as network:
        book = make(world, store, network, tmp_path).book
        book.take(signed_by(world.miners[0], PEER, network_id=world.network_id), PEER)
        with pytest.raises(RecordRefusedError) as refused:
            book.take(signed_by(STRANGER, PEER, network_id=world.network_id), PEER)
        assert refused.value.reason == "unknown_hotkey"
        assert len(book.others()) == 1


async def test_the_local_network_is_searched_only_if_asked_for(tmp_path: Path) -> None:
    async with open_network(network_config(1)) as network:
        assert local_peers(node_config(tmp_path), bytes(32), network) is None
        for host, interfaces in (("127.0.0.1", ("127.0.0.1",)), ("0.0.0.0", None)):
            found = local_peers(node_config(tmp_path, mdns=True, listen_host=host), b"n", network)
            assert found is not None
            assert found._interfaces == interfaces
