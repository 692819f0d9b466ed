"""The node's durable data behind one door: state, ledger, bodies and what receipts need.

Rules:
1. A decided batch, the state after it, its root and the proofs of its results go into one write
   batch: after a crash all of it is there or none.
2. The root after each slot is kept: batch n + W must name the root after n.
3. A result's proof is taken when it settles, under the root of that slot, because the state tree
   keeps only its newest version. The batch that certifies that root comes W slots later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from consensus.inputs import Edge
from consensus.messages import Evidence
from consensus.validators import Voters
from protocol.codec import U64, ZERO_DIGEST, Record, decode, digest_of, encode
from protocol.records.batch import Batch, Certificate
from protocol.records.checkpoint import CheckpointCertificate
from protocol.records.genesis import Genesis
from protocol.records.result import Receipt, Result, result_key
from protocol.records.weights import EpochWeights, weights_key
from protocol.state_proof import StateProof
from registry.access import current_epoch, read
from registry.catalog import write_genesis
from registry.epochs import fixed_edge
from storage.blobs import BlobStore
from storage.database import Column, Database, WriteBatch
from storage.errors import LedgerError
from storage.ledger import Ledger
from storage.state import StateTree
from validator_node.errors import GenesisMismatchError
from validator_node.execution import Outcome, execute

_NETWORK_KEY = b"network-id"
_STABLE_KEY = b"stable"
_EVIDENCE_KEY = b"evidence/"
_DIVERGED_KEY = b"diverged"


class ProvenResult(Record):
    """A result's proof under the state root after slot `seq`."""

    seq: U64
    proof: StateProof


class Store:
    """Everything a node keeps but its journal and its keys."""

    def __init__(self, database: Database, genesis: Genesis) -> None:
        self.database = database
        self.genesis = genesis
        self.tree = StateTree(database)
        self.ledger = Ledger(database)
        self.blobs = BlobStore(database)
        self._batch = WriteBatch()
        self._fresh_bodies: dict[bytes, bytes] = {}
        """Bodies in the open batch, which the blob store cannot see yet."""
        self.voters = self.voters_of(self.epoch)

    @classmethod
    def open(cls, path: Path, genesis: Genesis) -> Self:
        """Open the database at `path`, filled with the genesis if it is new.

        Raises `GenesisMismatchError` if it belongs to another network, and the errors of
        `Database.open`.
        """
        database = Database.open(path)
        try:
            known = database.get(Column.META, _NETWORK_KEY)
            store = cls(database, genesis)
            if known is None:
                store._write_genesis()
        except BaseException:
            database.close()
            raise
        if known is not None and known != genesis.network_id:
            database.close()
            raise GenesisMismatchError(path, known, genesis.network_id)
        return store

    def _write_genesis(self) -> None:
        batch = WriteBatch()
        with self.tree.view() as view:
            write_genesis(view, self.genesis)
            root = self.tree.commit(view, batch)
        self.ledger.anchor(batch, 0, self.genesis.network_id)
        batch.put(Column.META, _NETWORK_KEY, self.genesis.network_id)
        batch.put(Column.ROOTS, _seq_key(0), root)
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
        """Return the voters of an epoch. The members are the genesis' until a set is decided."""
        validators = self.genesis.validators.for_epoch(epoch)
        return Voters(validators, self.genesis.network_id)

    def edge(self) -> Edge | None:
        """Return where the epoch ends and who votes in the next one, once that is agreed."""
        fixed = fixed_edge(self.tree.view())
        if fixed is None:
            return None
        return Edge(fixed.seq, self.genesis.validators.for_epoch(self.epoch + 1))

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

    def certificate_at(self, seq: int) -> Certificate | None:
        """Return the commit certificate of a decided slot."""
        entry = self.ledger.get(seq)
        return None if entry is None else decode(Certificate, entry.certificate)

    def batch_at(self, seq: int) -> tuple[Batch, Certificate] | None:
        """Return a decided slot's batch and certificate, or None."""
        entry = self.ledger.get(seq)
        if entry is None:
            return None
        return decode(Batch, entry.body), decode(Certificate, entry.certificate)

    def root_after(self, seq: int) -> bytes | None:
        """Return the state root after slot `seq` (genesis for 0 and below), or None."""
        key = _seq_key(max(seq, 0))
        return self.database.get(Column.ROOTS, key, batch=self._open_batch())

    def apply(self, batch: Batch, certificate: Certificate) -> Outcome:
        """Execute the next decided batch. Durable after `flush`; reads see it at once.

        Raises `LedgerError`, and changes nothing, for any slot but the next.
        """
        header = certificate.header
        if header.seq != self.height + 1:
            raise LedgerError(f"slot {header.seq} cannot follow executed slot {self.height}")
        pending = self._open_batch()
        with self.tree.view() as view:
            outcome = execute(view, self.voters, self.genesis.parameters, header, batch)
            root = self.tree.commit(view, pending)
        if outcome.weights:
            self.voters = self.voters_of(self.epoch)
        self.ledger.put(pending, header.seq, header.digest, encode(batch), encode(certificate))
        pending.put(Column.ROOTS, _seq_key(header.seq), root)
        for result in outcome.results:
            proven = ProvenResult(
                seq=header.seq,
                proof=self.tree.prove(result_key(result.submission_id)),
            )
            pending.put(Column.PROOFS, result.submission_id, encode(proven))
        return outcome

    def put_stable(self, certificate: CheckpointCertificate) -> None:
        """Keep the newest stable checkpoint, and each one at an epoch's edge by its epoch."""
        data = encode(certificate)
        batch = self._open_batch()
        batch.put(Column.META, _STABLE_KEY, data)
        if certificate.checkpoint.next_set is not None:
            batch.put(Column.META, _edge_key(certificate.checkpoint.epoch), data)

    def mark_diverged(self, seq: int) -> None:
        """Remember, durably, that this node's state is wrong at `seq`: it must not vote again."""
        self._open_batch().put(Column.META, _DIVERGED_KEY, _seq_key(seq))
        self.flush()

    @property
    def diverged_at(self) -> int | None:
        """The slot at which this node's state was found to differ from a quorum's, or None."""
        data = self.database.get(Column.META, _DIVERGED_KEY)
        return None if data is None else int.from_bytes(data, "big")

    def put_evidence(self, evidence: Evidence) -> None:
        """Keep a proof that a validator contradicted itself."""
        self._open_batch().put(Column.META, _EVIDENCE_KEY + digest_of(evidence), encode(evidence))

    def evidence(self) -> list[Evidence]:
        """Return every kept proof."""
        rows = self.database.iterate(Column.META, _EVIDENCE_KEY, batch=self._open_batch())
        return [decode(Evidence, data) for _, data in rows]

    def stable(self) -> CheckpointCertificate | None:
        """Return the newest stable checkpoint, or None before the first."""
        return self._checkpoint(_STABLE_KEY)

    def edge_checkpoint(self, epoch: int) -> CheckpointCertificate | None:
        """Return the stable checkpoint at the edge of a former epoch."""
        return self._checkpoint(_edge_key(epoch))

    def _checkpoint(self, key: bytes) -> CheckpointCertificate | None:
        data = self.database.get(Column.META, key, batch=self._open_batch())
        return None if data is None else decode(CheckpointCertificate, data)

    def put_body(self, digest: bytes, body: bytes) -> None:
        """Keep a submission's body, by its hash. Durable after `flush`."""
        self.blobs.put(self._open_batch(), digest, body)
        self._fresh_bodies[digest] = body

    def body(self, digest: bytes) -> bytes | None:
        """Return a submission's body by its hash, or None."""
        return self._fresh_bodies.get(digest) or self.blobs.get(digest)

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

    def _open_batch(self) -> WriteBatch:
        return self._batch

    # --- what people ask for -----------------------------------------------------------------

    def result(self, submission_id: bytes) -> Result | None:
        """Return a submission's result, or None if it has not ended."""
        return read(self.tree.view(), Result, result_key(submission_id))

    def weights(self, epoch: int) -> EpochWeights | None:
        """Return the weights of a closed epoch."""
        return read(self.tree.view(), EpochWeights, weights_key(epoch))

    def receipt(self, submission_id: bytes) -> Receipt | None:
        """Return the receipt of a settled submission; None until its root is certified."""
        result = self.result(submission_id)
        data = self.database.get(Column.PROOFS, submission_id, batch=self._open_batch())
        if result is None or data is None:
            return None
        proven = decode(ProvenResult, data)
        certifying = self.batch_at(proven.seq + self.genesis.parameters.window)
        if certifying is None:
            return None
        batch, certificate = certifying
        return Receipt(
            result=result,
            state_proof=proven.proof,
            body=batch.commitment(),
            certificate=certificate,
        )


def _edge_key(epoch: int) -> bytes:
    return b"edge/" + epoch.to_bytes(8, "big")


def _seq_key(seq: int) -> bytes:
    return seq.to_bytes(8, "big")
