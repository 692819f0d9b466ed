"""The node's part in the DHT, put together: a database of its own, the rules, what is derived.

The records of others have a database of their own, `dht`: it is open before the network is, and
survives the installation of a snapshot.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import structlog

from consensus.validators import Voters
from protocol.codec import decode
from protocol.identity import verify_consensus
from protocol.records.checkpoint import CheckpointCertificate
from protocol.records.genesis import Genesis
from protocol.records.record_key import NEWEST, DhtKind, RecordKey
from protocol.records.validators import SignedNodeRecord
from registry.access import neuron
from storage.database import Database
from storage.errors import DatabaseDamagedError
from storage.record_store import RecordStore
from validator_node.founding import now_ms
from validator_node.network.dht_records import DhtConfig
from validator_node.network.errors import NetworkError
from validator_node.network.network import Network
from validator_node.record_service import RecordService
from validator_node.records.book import RecordBook, make_rules
from validator_node.records.derived import Derived
from validator_node.records.errors import RecordError
from validator_node.records.limits import RECORD_LIMITS
from validator_node.store import Store
from validator_node.sync.trust import SetChain

LOOKUP_S = 10.0

log = structlog.get_logger(__name__)


class RecordParts:
    """What the DHT needs of this node; most of it comes later than the network."""

    def __init__(self, state_dir: Path, genesis: Genesis) -> None:
        """Open the records' database, begun anew if it is damaged.

        Raises the other errors of `Database.open`.
        """
        self._genesis = genesis
        self._database, self.kept = _kept_records(state_dir / "dht")
        self._store: Store | None = None
        self._sets: SetChain | None = None
        self._anchors: Callable[[], Collection[str]] = tuple
        self.derived = Derived(genesis.network_id)
        rules = make_rules(
            genesis.network_id,
            voters_of=self._voters_of,
            verify=verify_consensus,
            is_known_hotkey=self._is_known,
        )
        self.book = RecordBook(genesis.network_id, rules)

    def config(self) -> DhtConfig:
        """Return what `open_network` is told."""
        return DhtConfig(
            judge=self.book,
            kept=self.kept,
            derived=self.derived,
            anchors=lambda: self._anchors(),
        )

    def attach(self, store: Store, sets: SetChain, anchors: Callable[[], Collection[str]]) -> None:
        """Answer from a store from now on.

        `sets` are those proven from others' hand-overs; `anchors` are peers that are always asked.
        """
        self._store = self.derived.source = store
        self._sets, self._anchors = sets, anchors

    def service(
        self,
        network: Network,
        own_record: Callable[[], SignedNodeRecord],
        own_index: Callable[[], int | None],
    ) -> RecordService:
        """Return what puts this node's records; the network was opened with `config()`."""
        if network.dht is None:
            raise AssertionError("the network was opened without a part in the DHT")

        def place() -> tuple[int, int] | None:
            index, store = own_index(), self._store
            return None if index is None or store is None else (index, len(store.voters))

        return RecordService(
            network.dht, self.kept, self._genesis.network_id, own_record=own_record, place=place
        )

    async def newest_checkpoint(self, network: Network) -> CheckpointCertificate | None:
        """Look up the newest checkpoint that the network has certified; None if none is found."""
        if network.dht is None:
            return None
        key = RecordKey.of(DhtKind.CHECKPOINT, self._genesis.network_id, NEWEST)
        try:
            value = await network.dht.get(str(key), deadline_s=LOOKUP_S)
        except (NetworkError, RecordError):
            return None
        return decode(CheckpointCertificate, value)

    def detach(self) -> None:
        """Forget the store, which is about to be closed."""
        self._store = self.derived.source = None

    def close(self) -> None:
        """Close the records' database, after the network."""
        self._database.close()

    def _voters_of(self, epoch: int) -> Voters | None:
        """Return the proven set of an epoch, None where this node does not know it."""
        store, sets = self._store, self._sets
        if store is None or sets is None:
            return None
        if epoch in (0, store.epoch) or store.edge_checkpoint(epoch - 1) is not None:
            return store.voters_of(epoch)
        return sets.voters(epoch)

    def _is_known(self, hotkey: bytes) -> bool:
        if self._store is None:
            return any(member.hotkey == hotkey for member in self._genesis.validators.members)
        return neuron(self._store.tree.view(), hotkey) is not None


def _kept_records(path: Path) -> tuple[Database, RecordStore]:
    """Return the records that others put here, none where they cannot be read any more.

    Each has other holders and an owner who renews it, so no operator need mend anything; the
    newest damaged folder stays beside it.
    """
    try:
        return _opened_records(path)
    except DatabaseDamagedError as error:
        aside = path.with_name(path.name + ".damaged")
        log.warning(
            "the DHT's records begin anew, nothing is to be done",
            reason=str(error),
            kept=str(aside),
        )
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        return _opened_records(path)


def _opened_records(path: Path) -> tuple[Database, RecordStore]:
    database = Database.open(path, create=True)
    try:
        return database, RecordStore(database, RECORD_LIMITS, now_ms)
    except BaseException:
        database.close()
        raise
