"""The node's durable data behind one door: state, ledger, bodies and what receipts need.

Rules:
1. A decided batch, the state after it, its root and the proofs of its results go into one write
   batch: after a crash all of it is there or none.
2. The root after each slot is kept: batch n + W must name the root after n.
3. What is old is dropped bit by bit, by the node's own policy (`storage.retention`).
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Self

from consensus.inputs import Edge
from consensus.messages import Evidence
from consensus.validators import Voters
from protocol.codec import ZERO_DIGEST, decode, digest_of, encode
from protocol.records.batch import Batch, Certificate
from protocol.records.checkpoint import CheckpointCertificate
from protocol.records.genesis import Genesis
from protocol.records.result import Receipt, Result, result_key
from protocol.records.submission import SignedSubmission
from protocol.records.weights import EpochWeights, weights_key
from registry.access import current_epoch, read
from registry.catalog import write_genesis
from registry.epochs import edge_at
from storage.blobs import BlobStore
from storage.database import Column, Database, FrozenDatabase, Meta, WriteBatch
from storage.errors import LedgerError
from storage.ledger import Ledger
from storage.retention import Aged, Retention, RetentionPolicy, Standing, floors
from storage.state import StateTree
from validator_node.epoch_sets import voters_of
from validator_node.errors import GenesisMismatchError, NeverFilledError
from validator_node.execution import Outcome, execute
from validator_node.receipts import Receipts


class Store:
    """Everything a node keeps but its journal and its keys."""

    def __init__(
        self,
        database: Database,
        genesis: Genesis,
        policy: RetentionPolicy = RetentionPolicy(),  # noqa: B008 - frozen
    ) -> None:
        self.database = database
        self.genesis = genesis
        self.tree = StateTree(database)
        self.ledger = Ledger(database)
        self.blobs = BlobStore(database)
        self._batch = WriteBatch()
        self.retention = Retention(database, self.ledger)
        self._policy = policy
        self._receipts = Receipts(self)
        self._fresh_bodies: dict[bytes, bytes] = {}
        """Bodies in the open batch, which the blob store cannot see yet."""
        self.voters = self.voters_of(self.epoch)

    @classmethod
    def open(
        cls,
        path: Path,
        genesis: Genesis,
        policy: RetentionPolicy = RetentionPolicy(),  # noqa: B008 - frozen
        *,
        create: bool = False,
    ) -> Self:
        """Open the database at `path`; with `create`, fill one that holds nothing with the genesis.

        Raises `GenesisMismatchError` for another network's, `NeverFilledError`, and the errors of
        `Database.open`.
        """
        database = Database.open(path, create=create)
        try:
            fill = create and is_unfilled(database)
            if not fill:
                check_network(database, genesis)
            store = cls(database, genesis, policy)
            if fill:
                store._write_genesis()
        except BaseException:
            database.close()
            raise
        return store

    def _write_genesis(self) -> None:
        batch = WriteBatch()
        with self.tree.view() as view:
            write_genesis(view, self.genesis)
            root = self.tree.commit(view, batch)
        self.ledger.anchor(batch, 0, self.genesis.network_id)
        batch.put(Column.META, Meta.NETWORK, self.genesis.network_id)
        batch.put(Column.ROOTS, seq_key(0), root)
        self.database.write(batch)

    def close(self) -> None:
        """Close the database; what was not flushed is dropped, as in a crash."""
        self.database.close()

    # --- epochs ------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The epoch in which results count now: that of the next slot."""
        return current_epoch(self.tree.view())

    def voters_of(self, epoch: int) -> Voters:
        """Return an epoch's voters; of an epoch unknown here they decide no slot."""
        return voters_of(self, epoch)

    def edge(self) -> Edge | None:
        """Return where the epoch ends and who votes next, once that is agreed; also in the edge."""
        return edge_at(self.tree.view(), self.height)

    # --- the chain of batches ----------------------------------------------------------------

    @property
    def height(self) -> int:
        """The last executed slot."""
        tip = self.ledger.tip()
        return tip[0] if tip else 0

    @property
    def chain_hash(self) -> bytes:
        """The digest of the last executed slot; the network id at genesis."""
        tip = self.ledger.tip()
        return tip[1] if tip else ZERO_DIGEST

    @property
    def first_held(self) -> int:
        """The first slot whose batch is held; above `height` if none is."""
        return self.ledger.first()

    def certificate_at(self, seq: int) -> Certificate | None:
        """Return the commit certificate of a decided slot, or of the snapshot's slot."""
        entry = self.ledger.get(seq)
        if entry is not None:
            return decode(Certificate, entry.certificate)
        data = self.database.get(Column.META, Meta.ANCHOR)
        anchor = None if data is None else decode(Certificate, data)
        return anchor if anchor is not None and anchor.header.seq == seq else None

    @property
    def executed_epoch(self) -> int:
        """The epoch of the last executed slot; 0 at genesis."""
        certificate = self.certificate_at(self.height)
        return certificate.header.epoch if certificate is not None else 0

    def batch_at(self, seq: int) -> tuple[Batch, Certificate] | None:
        """Return a decided slot's batch and certificate, or None."""
        entry = self.ledger.get(seq)
        if entry is None:
            return None
        return decode(Batch, entry.body), decode(Certificate, entry.certificate)

    def root_after(self, seq: int) -> bytes | None:
        """Return the state root after slot `seq` (genesis for 0 and below), or None."""
        key = seq_key(max(seq, 0))
        return self.database.get(Column.ROOTS, key, batch=self.open_batch)

    def apply(self, batch: Batch, certificate: Certificate) -> Outcome:
        """Execute the next decided batch. Durable after `flush`; reads see it at once.

        Raises `LedgerError`, and changes nothing, for any slot but the next.
        """
        header = certificate.header
        if header.seq != self.height + 1:
            raise LedgerError(f"slot {header.seq} cannot follow executed slot {self.height}")
        pending = self.open_batch
        with self.tree.view() as view:
            outcome = execute(view, self.voters, self.genesis.parameters, header, batch)
            root = self.tree.commit(view, pending)
        if outcome.weights:
            self.voters = self.voters_of(self.epoch)
        self.ledger.put(pending, header.seq, header.digest, encode(batch), encode(certificate))
        pending.put(Column.ROOTS, seq_key(header.seq), root)
        for result in outcome.results:
            self._receipts.prove(result.submission_id, header.seq)
        return outcome

    def put_stable(self, certificate: CheckpointCertificate) -> None:
        """Keep the newest stable checkpoint, and each one at an epoch's edge by its epoch."""
        data = encode(certificate)
        batch = self.open_batch
        batch.put(Column.META, Meta.STABLE, data)
        if certificate.checkpoint.next_set is not None:
            batch.put(Column.META, edge_key(certificate.checkpoint.epoch), data)

    def mark_diverged(self, seq: int) -> None:
        """Remember, durably, that this node's state is wrong at `seq`: it must not vote again."""
        self.open_batch.put(Column.META, Meta.DIVERGED, seq_key(seq))
        self.flush()

    @property
    def diverged_at(self) -> int | None:
        """The slot at which this node's state was found to differ from a quorum's, or None."""
        data = self.database.get(Column.META, Meta.DIVERGED)
        return None if data is None else int.from_bytes(data, "big")

    def put_evidence(self, evidence: Evidence) -> None:
        """Keep a proof that a validator contradicted itself."""
        self.open_batch.put(Column.META, Meta.EVIDENCE + digest_of(evidence), encode(evidence))

    def evidence(self) -> list[Evidence]:
        """Return every kept proof."""
        rows = self.database.iterate(Column.META, Meta.EVIDENCE, batch=self.open_batch)
        return [decode(Evidence, data) for _, data in rows]

    def evidence_of(self, digest: bytes) -> Evidence | None:
        """Return a kept proof by its digest, or None."""
        data = self.database.get(Column.META, Meta.EVIDENCE + digest, batch=self.open_batch)
        return None if data is None else decode(Evidence, data)

    def stable(self) -> CheckpointCertificate | None:
        """Return the newest stable checkpoint, or None before the first."""
        return self._checkpoint(Meta.STABLE)

    def edge_checkpoint(self, epoch: int) -> CheckpointCertificate | None:
        """Return the stable checkpoint at the edge of a former epoch."""
        return self._checkpoint(edge_key(epoch))

    def edge_checkpoints(self) -> list[CheckpointCertificate]:
        """Return the stable checkpoints at the edges of all former epochs that are held."""
        rows = self.database.iterate(Column.META, Meta.EDGE, batch=self.open_batch)
        return [decode(CheckpointCertificate, data) for _, data in rows]

    def _checkpoint(self, key: bytes) -> CheckpointCertificate | None:
        data = self.database.get(Column.META, key, batch=self.open_batch)
        return None if data is None else decode(CheckpointCertificate, data)

    def put_body(self, digest: bytes, body: bytes) -> None:
        """Keep a submission's body, by its hash. Durable after `flush`."""
        self.blobs.put(self.open_batch, digest, body)
        self.retention.note(self.open_batch, Aged.BODY, digest, self.height)
        self._fresh_bodies[digest] = body

    def body(self, digest: bytes) -> bytes | None:
        """Return a submission's body by its hash, or None."""
        return self._fresh_bodies.get(digest) or self.blobs.get(digest)

    def has_body(self, digest: bytes) -> bool:
        """Whether a submission's body is here, unchecked."""
        return digest in self._fresh_bodies or self.blobs.has(digest)

    @property
    def is_dirty(self) -> bool:
        """Whether something changed since the last `flush`."""
        return len(self._batch) > 0

    def flush(self) -> None:
        """Make everything since the last flush durable."""
        if len(self._batch):
            self.database.write(self._batch)
            self._batch = WriteBatch()
            self._fresh_bodies.clear()

    def drop_old(self) -> int:
        """Drop some of what is old, with the next flush; return how many keys."""
        stable = self.stable()
        parameters = self.genesis.parameters
        standing = Standing(
            height=self.height,
            stable_seq=0 if stable is None else stable.checkpoint.seq,
            epoch=self.epoch,
            window=parameters.window,
            dispute_after=parameters.dispute_after,
        )
        kept_from = floors(self._policy, standing, self._edge_of)
        return self.retention.step(self.open_batch, kept_from)

    def _edge_of(self, epoch: int) -> int | None:
        found = self.edge_checkpoint(epoch)
        return None if found is None else found.checkpoint.seq

    def freeze(self) -> FrozenDatabase:
        """Return the store as it is after the last executed slot; it does not change any more."""
        self.flush()
        return self.database.freeze()

    @property
    def open_batch(self) -> WriteBatch:
        """The changes that the next flush writes."""
        return self._batch

    # --- what people ask for -----------------------------------------------------------------

    def result(self, submission_id: bytes) -> Result | None:
        """Return a submission's result, or None if it has not ended."""
        return read(self.tree.view(), Result, result_key(submission_id))

    def signed_submission(self, submission_id: bytes) -> SignedSubmission | None:
        """Return an admitted submission with its signature, as long as its batch is held."""
        return self._receipts.signed_submission(submission_id)

    def weights(self, epoch: int) -> EpochWeights | None:
        """Return the weights of a closed epoch."""
        return read(self.tree.view(), EpochWeights, weights_key(epoch))

    def receipt(self, submission_id: bytes) -> Receipt | None:
        """Return the receipt of a settled submission; None until its root is certified."""
        return self._receipts.find(submission_id)


def check_network(database: Database, genesis: Genesis) -> None:
    """Raise `GenesisMismatchError` or `NeverFilledError` unless the database is this network's."""
    known = database.get(Column.META, Meta.NETWORK)
    if known is None:
        raise NeverFilledError(database.path, empty=is_unfilled(database))
    if known != genesis.network_id:
        raise GenesisMismatchError(database.path, known, genesis.network_id)


def is_unfilled(database: Database) -> bool:
    """Return whether nothing but the schema version was ever written."""
    rows = (key for column in Column for key, _ in database.iterate(column))
    return all(key == Meta.SCHEMA for key in islice(rows, 2))


def edge_key(epoch: int) -> bytes:
    """Return the name of the stable checkpoint at an epoch's edge."""
    return Meta.EDGE + epoch.to_bytes(8, "big")


def seq_key(seq: int) -> bytes:
    """Return the key of a slot's state root."""
    return seq.to_bytes(8, "big")
