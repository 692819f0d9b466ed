"""Checking a stopped node's database against itself and the genesis, from one end to the other.

What is checked, in this order, up to the first damage:

- *files*: every row of every column can be read, so LevelDB's checksums hold.
- *ledger*: no slot is missing. Each follows its parent, is the batch that its header names, has a
  quorum's certificate, and names the state root that this node had.
- *checkpoints*: the newest stable one and those at epochs' edges are signed by a quorum and agree
  with the chain and the roots.
- *state*: each node of the tree hashes to what its parent says; the root of all values is the
  tree's, and that of the last slot.
- *proofs*: each result's proof holds under the root of its slot.
- *blobs*: each body has the hash it is stored under.
- *snapshots*: every chunk has its hash. Nothing is dropped: the node does that itself.

Memory: about 200 bytes for each key of the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from consensus.certificate import judge_certificate
from consensus.checkpoints import judge_by
from consensus.validators import Voters
from protocol.codec import decode, encode, sha256
from protocol.errors import ProtocolError
from protocol.identity import verify_consensus
from protocol.records.batch import Batch, Certificate
from protocol.records.checkpoint import CheckpointCertificate
from protocol.records.genesis import Genesis
from protocol.records.result import result_key
from protocol.state_proof import verify_state
from storage.database import Column, Meta
from storage.errors import StorageError
from storage.ledger import LedgerEntry
from storage.snapshots import look_at_snapshots
from validator_node.database_tools import (
    SNAPSHOT_FOLDER,
    DatabaseToolError,
    Report,
)
from validator_node.opening import look_at_store
from validator_node.receipts import ProvenResult
from validator_node.store import Store

_REPORT_EVERY = 256


class DamageFoundError(DatabaseToolError):
    """Something in the database does not hold; `stage` says where it was found."""

    def __init__(self, stage: str, detail: str) -> None:
        super().__init__(f"{stage}: {detail}")
        self.stage = stage
        self.detail = detail


@dataclass(frozen=True)
class Verified:
    """How much was checked and found whole."""

    rows: int
    slots: int
    checkpoints: int
    keys: int
    proofs: int
    blobs: int
    chunks: int


def verify(state_dir: Path, genesis: Genesis, report: Report) -> Verified:
    """Check everything; `DamageFoundError` names the first damage. And `look_at_store`'s errors."""
    with look_at_store(state_dir, genesis) as store:
        return check_store(store, report, state_dir / SNAPSHOT_FOLDER)


def check_store(store: Store, report: Report, snapshots: Path | None = None) -> Verified:
    """Check an open store, and the snapshots in a folder. Raises `DamageFoundError`."""
    checks = _Checks(store, report)
    return Verified(
        rows=checks.run("files", checks.files),
        slots=checks.run("ledger", checks.ledger),
        checkpoints=checks.run("checkpoints", checks.checkpoints),
        keys=checks.run("state", checks.state),
        proofs=checks.run("proofs", checks.proofs),
        blobs=checks.run("blobs", checks.blobs),
        chunks=checks.run("snapshots", lambda: checks.snapshots(snapshots)),
    )


def check_slot(
    store: Store, entry: LedgerEntry, parent: bytes | None, voters: Voters | None = None
) -> tuple[Batch, Certificate]:
    """Return a decided slot that follows `parent`, if that is known; else `DamageFoundError`.

    With `voters` the certificate's signatures are checked, too.
    """
    seq = entry.seq
    try:
        batch = decode(Batch, entry.body)
        certificate = decode(Certificate, entry.certificate)
        if voters is not None:
            judge_certificate(voters, certificate, "commit", verify_consensus)
    except ProtocolError as error:
        raise DamageFoundError("ledger", f"slot {seq}: {error}") from error
    header = certificate.header
    if (header.seq, header.digest) != (seq, entry.digest):
        raise DamageFoundError("ledger", f"slot {seq} holds the header of slot {header.seq}")
    if header.body_root != batch.body_root():
        raise DamageFoundError("ledger", f"slot {seq}: the batch is not the one its header names")
    if parent is not None and header.parent != parent:
        raise DamageFoundError("ledger", f"slot {seq} does not follow slot {seq - 1}")
    known = store.root_after(seq - store.genesis.parameters.window)
    if known is not None and batch.state_root != known:
        raise DamageFoundError(
            "ledger",
            f"slot {seq} names state root {batch.state_root.hex()} for "
            f"{store.genesis.parameters.window} slots before, this node had {known.hex()}",
        )
    return batch, certificate


class _Checks:
    def __init__(self, store: Store, report: Report) -> None:
        self._store = store
        self._report = report
        self._voters: Callable[[int], Voters] = lru_cache(8)(store.voters_of)

    def run(self, stage: str, check: Callable[[], int]) -> int:
        """Run one stage; what the storage or a record says against itself is damage."""
        with _as_damage(stage):
            done = check()
        self._report(stage, done, done)
        return done

    def files(self) -> int:
        rows = 0
        for column in Column:
            for _ in self._store.database.iterate(column):
                rows += 1
                self._tell("files", rows, 0)
        return rows

    def ledger(self) -> int:
        store = self._store
        first, height = store.ledger.first(), store.height
        parent = _digest_at(store, first - 1)
        for seq in range(first, height + 1):
            entry = store.ledger.get(seq)
            if entry is None:
                raise DamageFoundError("ledger", f"slot {seq} is missing, the tip is {height}")
            epoch = decode(Certificate, entry.certificate).header.epoch
            check_slot(store, entry, parent, self._voters(epoch))
            if store.ledger.by_digest(entry.digest) != entry:
                raise DamageFoundError("ledger", f"slot {seq} is not found by its digest")
            parent = entry.digest
            self._tell("ledger", seq - first + 1, height - first + 1)
        if parent is not None and parent != store.chain_hash:
            raise DamageFoundError("ledger", f"slot {height} is not the tip's digest")
        return max(0, height - first + 1)

    def checkpoints(self) -> int:
        stable = self._store.stable()
        found = [] if stable is None else [stable]
        for _, data in self._store.database.iterate(Column.META, Meta.EDGE):
            found.append(decode(CheckpointCertificate, data))
        for certificate in found:
            self._checkpoint(certificate)
        return len(found)

    def _checkpoint(self, certificate: CheckpointCertificate) -> None:
        store, checkpoint = self._store, certificate.checkpoint
        judge_by(self._voters(checkpoint.epoch), certificate, verify_consensus)
        digest, root = _digest_at(store, checkpoint.seq), store.root_after(checkpoint.seq)
        if digest is not None and digest != checkpoint.chain_hash:
            raise DamageFoundError(
                "checkpoints", f"the one at slot {checkpoint.seq} has another chain hash"
            )
        if root is not None and root != checkpoint.state_root:
            raise DamageFoundError(
                "checkpoints",
                f"a quorum certified state root {checkpoint.state_root.hex()} at slot "
                f"{checkpoint.seq}, this node had {root.hex()}",
            )

    def state(self) -> int:
        store = self._store
        root = store.tree.root()
        self._report("state", 0, 0)
        leaves = store.tree.check_nodes()
        values = store.tree.recompute()
        if values != root:
            raise DamageFoundError(
                "state", f"the tree has root {root.hex()}, its values have {values.hex()}"
            )
        known = store.root_after(store.height)
        if known != root:
            shown = "none" if known is None else known.hex()
            raise DamageFoundError(
                "state", f"the root is {root.hex()}, after slot {store.height} it was {shown}"
            )
        return leaves

    def proofs(self) -> int:
        store = self._store
        done = 0
        for submission_id, data in store.database.iterate(Column.PROOFS):
            proven = decode(ProvenResult, data)
            result = store.result(submission_id)
            if result is None:
                raise DamageFoundError("proofs", f"{submission_id.hex()} has no result")
            root = store.root_after(proven.seq)
            if root is not None:
                verify_state(root, result_key(submission_id), encode(result), proven.proof)
            done += 1
            self._tell("proofs", done, 0)
        return done

    def blobs(self) -> int:
        done = 0
        for digest, content in self._store.database.iterate(Column.BLOBS):
            if sha256(content) != digest:
                raise DamageFoundError("blobs", f"{digest.hex()} has another content")
            done += 1
            self._tell("blobs", done, 0)
        return done

    def snapshots(self, path: Path | None) -> int:
        chunks = 0
        for folder, manifest in () if path is None else look_at_snapshots(path):
            if manifest is None:
                raise DamageFoundError("snapshots", f"{folder} lacks something")
            for chunk in manifest.chunks:
                data = (folder / chunk.digest.hex()).read_bytes()
                if sha256(data) != chunk.digest:
                    raise DamageFoundError(
                        "snapshots", f"{folder}: chunk {chunk.digest.hex()} is damaged"
                    )
                chunks += 1
                self._tell("snapshots", chunks, 0)
        return chunks

    def _tell(self, stage: str, done: int, total: int) -> None:
        if done % _REPORT_EVERY == 0:
            self._report(stage, done, total)


@contextmanager
def _as_damage(stage: str) -> Iterator[None]:
    try:
        yield
    except (StorageError, ProtocolError) as error:
        raise DamageFoundError(stage, str(error)) from error


def _digest_at(store: Store, seq: int) -> bytes | None:
    """Return the chain hash at a slot, if this node can know it."""
    if seq == 0:
        return store.genesis.network_id
    certificate = store.certificate_at(seq)
    return None if certificate is None else certificate.header.digest
