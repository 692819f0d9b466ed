"""Discovery put together from a node's parts: its keys, its database, its state."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from typing import Final

from consensus.validators import Voters
from protocol.codec import digest_of
from protocol.envelope import RecordKind, record_payload
from protocol.records.consensus_key import KeyBinding, SignedKey, binding_payload
from protocol.records.genesis import Genesis
from protocol.records.validators import NodeRecord, SignedNodeRecord
from registry import keys as state_keys
from registry.access import neuron
from storage.database import Column, Database, WriteBatch
from validator_node.config import NodeConfig
from validator_node.discovery.book import AddressBook
from validator_node.discovery.service import Discovery, DiscoveryConfig, SignRecord
from validator_node.keys import Keys
from validator_node.network.addresses import announced
from validator_node.network.mdns import LocalPeers
from validator_node.network.network import Network
from validator_node.store import Store

BOOK: Final = b"address-book"


class SavedBook:
    """The address book in the node's database; it may be lost without harm."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> bytes | None:
        """Return what was saved last, None if nothing was."""
        return self._database.get(Column.LOCAL, BOOK)

    def save(self, data: bytes) -> None:
        """Keep these bytes instead of those saved before."""
        batch = WriteBatch()
        batch.put(Column.LOCAL, BOOK, data)
        self._database.write(batch, sync=False)


def record_signer(
    keys: Keys, network_id: bytes, peer_id: str, is_bound: Callable[[bytes], bool]
) -> SignRecord:
    """Return what signs this node's records with its hotkey.

    As long as the replicated state does not know the consensus key (`is_bound`), the record asks
    the validators to take it in.
    """

    def bind(sequence: int) -> SignedKey | None:
        if is_bound(keys.consensus.public_key):
            return None
        binding = KeyBinding(
            hotkey=keys.hotkey.public_key,
            consensus_key=keys.consensus.public_key,
            sequence=sequence,
        )
        payload = binding_payload(binding, network_id)
        return SignedKey(
            binding=binding,
            signature=keys.hotkey.sign(payload),
            possession=keys.consensus.sign(payload),
        )

    def sign(addresses: tuple[str, ...], sequence: int) -> SignedNodeRecord:
        record = NodeRecord(
            hotkey=keys.hotkey.public_key,
            consensus_key=keys.consensus.public_key,
            peer_id=peer_id,
            addresses=addresses,
            sequence=sequence,
            key=bind(sequence),
        )
        payload = record_payload(RecordKind.NODE_RECORD, network_id, digest_of(record))
        return SignedNodeRecord(record=record, signature=keys.hotkey.sign(payload))

    return sign


def local_peers(config: NodeConfig, network_id: bytes, network: Network) -> LocalPeers | None:
    """Return the search on the local network, None unless it is configured.

    A node that listens on one address looks there alone, one that listens on all looks everywhere.
    """
    if not config.mdns:
        return None
    everywhere = ipaddress.ip_address(config.listen_host).is_unspecified
    return LocalPeers(
        network_id,
        network.peer_id,
        lambda: announced(network.addresses),
        network.counters,
        interfaces=None if everywhere else (config.listen_host,),
    )


def make_discovery(
    config: NodeConfig,
    genesis: Genesis,
    keys: Keys,
    network: Network,
    store: Store,
    voters: Voters,
) -> Discovery:
    """Return a node's discovery, not yet running."""
    book = AddressBook(
        genesis.network_id,
        keys.hotkey.public_key,
        is_neuron=lambda hotkey: neuron(store.tree.view(), hotkey) is not None,
        now=time.time,
    )

    def is_bound(consensus_key: bytes) -> bool:
        return store.tree.view().get(state_keys.BOUND + consensus_key) is not None

    settings = DiscoveryConfig(
        network_id=genesis.network_id,
        listen_host=config.listen_host,
        bootstrap=config.bootstrap,
        peer_exchange=config.peer_exchange,
    )
    return Discovery(
        network,
        book,
        voters,
        record_signer(keys, genesis.network_id, network.peer_id, is_bound),
        settings,
        SavedBook(store.database),
        local_peers(config, genesis.network_id, network),
    )
