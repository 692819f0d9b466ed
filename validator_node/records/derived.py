"""Records that nobody has to put: what the node's own storage holds, under its DHT key.

Every full node answers any settled result, body, evidence, validator set and the newest checkpoint
by its key, because it has them anyway. That is why results are never put one by one.
"""

from __future__ import annotations

from typing import Protocol

from consensus.messages import Evidence
from protocol.codec import encode
from protocol.errors import ProtocolError
from protocol.records.checkpoint import CheckpointCertificate
from protocol.records.record_key import NEWEST, DhtKind, RecordKey, network_digits
from protocol.records.result import Receipt
from protocol.records.submission import SignedSubmission
from storage.errors import BlobDamagedError


class Source(Protocol):
    """The storage that records are derived from."""

    def receipt(self, submission_id: bytes) -> Receipt | None:
        """Return the receipt of a settled submission, if its root is certified."""

    def signed_submission(self, submission_id: bytes) -> SignedSubmission | None:
        """Return an admitted submission with its miner's signature."""

    def stable(self) -> CheckpointCertificate | None:
        """Return the newest stable checkpoint."""

    def edge_checkpoint(self, epoch: int) -> CheckpointCertificate | None:
        """Return the stable checkpoint at the edge of a former epoch."""

    def evidence_of(self, digest: bytes) -> Evidence | None:
        """Return kept evidence by its digest."""

    def body(self, digest: bytes) -> bytes | None:
        """Return a body or a module by its hash."""


class Derived:
    """Looks records up in a source.

    `source` may be set later, or be replaced: the DHT answers before the storage is open, and a
    snapshot brings a new one.
    """

    def __init__(self, network_id: bytes, source: Source | None = None) -> None:
        self._network = network_digits(network_id)
        self.source = source

    def __call__(self, text: str) -> bytes | None:
        """Return the value under a key, or None; also for keys of other forms and networks.

        A body that is damaged on the disk counts as none. Raises `DatabaseError`.
        """
        try:
            key = RecordKey.parse(text)
            if self.source is None or key.network != self._network:
                return None
            return self._find(self.source, key)
        except (ProtocolError, BlobDamagedError):
            return None

    def _find(self, source: Source, key: RecordKey) -> bytes | None:
        if key.kind in (DhtKind.BLOB, DhtKind.BUNDLE):
            return source.body(key.digest())
        found: object = None
        if key.kind == DhtKind.RESULT:
            found = source.receipt(key.digest())
        elif key.kind == DhtKind.SUBMISSION:
            found = source.signed_submission(key.digest())
        elif key.kind == DhtKind.EVIDENCE:
            found = source.evidence_of(key.digest())
        elif key.kind == DhtKind.VALIDATORS and key.number() > 0:
            found = source.edge_checkpoint(key.number() - 1)
        elif key.kind == DhtKind.CHECKPOINT and key.id == NEWEST:
            found = source.stable()
        return None if found is None else encode(found)
