"""Making a database, into which the state of a snapshot was put, the store at its checkpoint."""

from __future__ import annotations

from collections.abc import Iterable

from protocol.codec import encode
from protocol.records.batch import Certificate
from protocol.records.checkpoint import CheckpointCertificate
from protocol.records.genesis import Genesis
from storage.database import Column, Database, Meta, WriteBatch
from storage.ledger import Ledger
from validator_node.store import edge_key, seq_key


def write_anchor(
    database: Database,
    genesis: Genesis,
    certificate: CheckpointCertificate,
    decided: Certificate,
    handovers: Iterable[CheckpointCertificate],
) -> None:
    """Let `database`, which holds the checkpoint's state, begin there.

    The certificates are believed: whoever calls this has proven them.
    """
    checkpoint = certificate.checkpoint
    batch = WriteBatch()
    Ledger(database).anchor(batch, checkpoint.seq, checkpoint.chain_hash)
    batch.put(Column.META, Meta.NETWORK, genesis.network_id)
    batch.put(Column.META, Meta.STABLE, encode(certificate))
    batch.put(Column.META, Meta.ANCHOR, encode(decided))
    batch.put(Column.ROOTS, seq_key(checkpoint.seq), checkpoint.state_root)
    for handover in handovers:
        batch.put(Column.META, edge_key(handover.checkpoint.epoch), encode(handover))
    if checkpoint.next_set is not None:
        batch.put(Column.META, edge_key(checkpoint.epoch), encode(certificate))
    database.write(batch)
