"""The engine of a node, made from what its database and its journal remember.

Rules:
1. The journal may know of an older epoch than the database (which came from a snapshot): the engine
   begins in the database's. It may know of a newer one (a crash took the database's last writes, or
   it was taken back, or restored from a backup): until the slots up to that epoch are executed
   again the node observes, for statements, sets and counters are those of the state. Then this run
   ends, and the next one begins with everything that the journal holds.
2. A node whose key is in the set votes; one whose key is not follows, and votes from the epoch on
   whose set names it. One without a usable journal follows and never votes with this key.
3. A floor in an epoch that is still to come says that what the key has promised till then is not
   known here: it votes from that epoch on.
"""

from __future__ import annotations

from consensus.effects import Persist, PersistEpoch
from consensus.engine import Engine
from consensus.validators import Voters
from protocol.identity import ConsensusKey, verify_consensus
from protocol.records.checkpoint import Checkpoint
from protocol.records.genesis import Genesis
from registry import keys as state_keys
from registry.access import read
from validator_node.config import NodeConfig
from validator_node.errors import ResyncNeeded
from validator_node.journal_bridge import AnyJournal, ObserverJournal, why_resting
from validator_node.opening import open_own_journal, open_own_store
from validator_node.statements import StatementPool
from validator_node.store import Store


def open_replica(
    config: NodeConfig, genesis: Genesis, key: ConsensusKey
) -> tuple[Store, AnyJournal, Engine, str]:
    """Open the node's store and journal and make its engine; the text says why it observes.

    Raises the errors of `open_own_store` and `open_own_journal`.
    """
    store = open_own_store(config, genesis, key.public_key)
    journal, why_observing = open_own_journal(config, genesis, key.public_key)
    begins = begun_above(store, journal)
    if begins is not None:
        journal.close()
        journal = RelearningJournal(begins.epoch + 1)
        why_observing = (
            f"the database ends at slot {store.height}, and this key has signed in epoch "
            f"{begins.epoch + 1}, which begins above slot {begins.seq}: it votes again when the "
            f"slots up to there are executed"
        )
    engine = make_engine(store, journal, key)
    return store, journal, engine, why_observing or why_resting(journal, engine.core.voters)


class RelearningJournal(ObserverJournal):
    """The journal of a node that observes until its database has reached its real journal."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self._epoch = epoch

    def on_epoch(self, voters: Voters, me: int | None) -> None:
        """End this run once the database has reached the journal's epoch."""
        del me
        if voters.epoch >= self._epoch:
            raise ResyncNeeded(voters.after, "the journal: the database has reached its epoch")


def begun_above(store: Store, journal: AnyJournal) -> Checkpoint | None:
    """Return the checkpoint of the newest edge in the journal, if it is above the database."""
    persisted = journal.remembered.persisted
    edges = [one.certificate.checkpoint for one in persisted if isinstance(one, PersistEpoch)]
    return edges[-1] if edges and edges[-1].seq > store.height else None


def make_engine(store: Store, journal: AnyJournal, key: ConsensusKey) -> Engine:
    """Return the engine, where the node left off."""
    persisted = [*journal.remembered.persisted, *_missing_epochs(store, journal)]
    begun = [record for record in persisted if isinstance(record, PersistEpoch)]
    if begun and begun[-1].certificate.checkpoint.seq > store.height:
        raise AssertionError("a database that is behind its journal's epoch is relearned (rule 1)")
    voters = store.voters_of(begun[-1].certificate.checkpoint.epoch if begun else 0)
    may_sign = not isinstance(journal, ObserverJournal)
    return Engine(
        voters,
        voters.index_of_key(key.public_key) if may_sign else None,
        key=key.public_key if may_sign else None,
        signs_from=journal.signs_from,
        sign=key.sign,
        verify=verify_consensus,
        parameters=store.genesis.parameters,
        genesis_digest=store.genesis.network_id,
        executed=store.certificate_at(store.height),
        stable=store.stable(),
        edge=store.edge(),
        persisted=persisted,
    )


def _missing_epochs(store: Store, journal: AnyJournal) -> list[Persist]:
    """Journal the newest epoch of the database if the journal is older, and return it (rule 1)."""
    known = [
        record.certificate.checkpoint.epoch + 1
        for record in journal.remembered.persisted
        if isinstance(record, PersistEpoch)
    ]
    epoch = store.executed_epoch
    if epoch <= max(known, default=0):
        return []
    handover = store.edge_checkpoint(epoch - 1)
    if handover is None:
        raise AssertionError(f"epoch {epoch} was executed and its opening checkpoint is not held")
    record = PersistEpoch(handover)
    journal.append(record)
    journal.sync()
    return [record]


def statement_pool(store: Store, voters: Voters) -> StatementPool:
    """Return an empty pool that knows which statements are executed."""
    pool = StatementPool(len(voters))
    view = store.tree.view()
    for signer in range(len(voters)):
        mark = read(view, state_keys.Mark, state_keys.MARK + state_keys.u16(signer))
        if mark is not None:
            pool.mark_executed(signer, mark.counter)
    return pool
