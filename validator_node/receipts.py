"""What miners ask for: the proofs of results with the batches that certify them, and submissions.

Rules:
1. A result's proof is taken when it settles, under the root of that slot, because the state tree
   keeps only its newest version. The batch that certifies that root comes W slots later.
2. A result that came with a snapshot, or whose proof or batch is no longer held, is proven anew,
   under today's root, when somebody asks for it. Its receipt is there W slots later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.codec import U64, Record, decode, encode
from protocol.records.result import Receipt, result_key
from protocol.records.statement import Statement
from protocol.records.submission import SignedSubmission
from protocol.state_proof import StateProof
from registry import keys
from registry.access import read
from storage.database import Column
from storage.retention import Aged

if TYPE_CHECKING:
    from validator_node.store import Store


class ProvenResult(Record):
    """A result's proof under the state root after slot `seq`."""

    seq: U64
    proof: StateProof


class Receipts:
    """The receipts of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def prove(self, submission_id: bytes, seq: int) -> None:
        """Keep the proof of a result under the root after slot `seq`, the last executed one."""
        store = self._store
        proven = ProvenResult(seq=seq, proof=store.tree.prove(result_key(submission_id)))
        store.open_batch.put(Column.PROOFS, submission_id, encode(proven))
        store.retention.note(store.open_batch, Aged.PROOF, submission_id, seq)

    def signed_submission(self, submission_id: bytes) -> SignedSubmission | None:
        """Return an admitted submission as its batch holds it, if that is still held."""
        store = self._store
        ended = store.result(submission_id)
        pending = read(store.tree.view(), keys.Pending, keys.PENDING + submission_id)
        known = ended or pending
        entry = None if known is None else store.batch_at(known.admitted_seq)
        for action in entry[0].actions if entry is not None else ():
            for item in action.items if isinstance(action, Statement) else ():
                if isinstance(item, SignedSubmission) and item.submission_id == submission_id:
                    return item
        return None

    def find(self, submission_id: bytes) -> Receipt | None:
        """Return the receipt of a settled submission; None until its root is certified."""
        store = self._store
        result = store.result(submission_id)
        if result is None:
            return None
        data = store.database.get(Column.PROOFS, submission_id, batch=store.open_batch)
        proven = None if data is None else decode(ProvenResult, data)
        window = store.genesis.parameters.window
        if proven is None or proven.seq + window < store.first_held:
            self.prove(submission_id, store.height)
            return None
        certifying = store.batch_at(proven.seq + window)
        if certifying is None:
            return None
        batch, certificate = certifying
        return Receipt(
            result=result,
            state_proof=proven.proof,
            body=batch.commitment(),
            certificate=certificate,
        )
