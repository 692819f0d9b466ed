"""What a node drops when it is old: decided batches, proofs of results, bodies.

What is dropped is this node's own affair: the state and its root are the same on every node, and
whatever was dropped can be fetched from a node that keeps more, or made again. Log files are
rotated by whoever writes them, DHT records have an expiry of their own (`storage.record_store`).

Rules:
1. Ages are slots. `note` indexes a body or a proof by the slot it came at, in the batch that stores
   it; to store it again makes it young again. What was never noted is never dropped.
2. Batches need no index. `Ledger.first` rises to the floor at once, from then on nothing below it
   is answered, and the rows below it are deleted bit by bit: also what an anchor left behind.
3. A `step` deletes at most `STEP_KEYS` keys and reads at most `STEP_BYTES`, all in the caller's
   write batch: no turn is delayed by more, and no additional sync is paid for.
4. LevelDB keeps a marker for each deleted key until it compacts, and walks over them. Each walk
   therefore begins where the last one ended; only the first after a start begins at the beginning,
   and drops what a discarded batch, or an older slot noted late, has left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from storage.database import Column, Database, Pair, WriteBatch
from storage.ledger import Ledger, decode_entry

STEP_KEYS = 256
STEP_BYTES = 4 * 1024 * 1024
_SLOT_BYTES = 8
_KEYS_A_BATCH = 3
"""A decided batch is stored under its slot and its digest, and beside it stands the root."""


class Aged(bytes, Enum):
    """What has an age, by the byte that its rows in the index begin with."""

    PROOF = b"p"
    BODY = b"b"

    @property
    def column(self) -> Column:
        """Where the thing itself is stored, under the key that is noted."""
        return Column.PROOFS if self is Aged.PROOF else Column.BLOBS


@dataclass(frozen=True)
class RetentionPolicy:
    """How much a node keeps; 0 keeps everything of that kind for ever.

    The defaults hold about a week of bodies at Bittensor's tempo (360 blocks of 12 s), which is
    longer than any dispute or audit needs them, and a log that spares a node which was away for a
    day a snapshot. Proofs follow the log: they need its certificates, and a node makes a proof of
    an old result anew, under a newer root, when somebody asks for it.
    """

    ledger_slots: int = 100_000
    """Decided batches kept below the newest stable checkpoint."""
    proof_epochs: int = 0
    """Epochs after its own in which a result's proof is kept; 0: as long as the log reaches."""
    body_epochs: int = 144
    """Epochs in which a body is kept after the one in which it came."""


@dataclass(frozen=True)
class Standing:
    """Where the node stands, for `floors`."""

    height: int
    stable_seq: int
    """Slot of the newest stable checkpoint; 0 before the first."""
    epoch: int
    window: int
    dispute_after: int


@dataclass(frozen=True)
class Floors:
    """The first slot that is kept, of each kind; 0 keeps everything."""

    ledger: int = 0
    proofs: int = 0
    bodies: int = 0


def floors(
    policy: RetentionPolicy, standing: Standing, edge_of: Callable[[int], int | None]
) -> Floors:
    """Return what `policy` lets go.

    `edge_of` gives the last slot of an epoch, None where it is not known: nothing is dropped then.
    A batch that a proof of the last window needs, and a body whose submission may still be pending,
    is kept whatever the policy says.
    """

    def after(epochs: int) -> int:
        last = standing.epoch - epochs - 1
        edge = edge_of(last) if epochs and last >= 0 else None
        return 0 if edge is None else edge + 1

    ledger = 0
    if policy.ledger_slots:
        ledger = min(standing.stable_seq, standing.height) - policy.ledger_slots + 1
        ledger = max(0, min(ledger, standing.height - standing.window))
    settled = standing.height - standing.dispute_after - 2 * standing.window
    return Floors(
        ledger=ledger,
        # The batch that certifies the root of slot n is n + window.
        proofs=max(0, ledger - standing.window, after(policy.proof_epochs)),
        bodies=max(0, min(after(policy.body_epochs), settled)),
    )


class Retention:
    """Notes ages and drops what is too old. One object a database."""

    def __init__(self, database: Database, ledger: Ledger, *, step_keys: int = STEP_KEYS) -> None:
        self._database = database
        self._ledger = ledger
        self._step_keys = step_keys
        self._reached: dict[bytes, bytes] = {}
        """Column or kind -> the key where the next walk begins (rule 4)."""
        self.dropped = {"batches": 0, "proofs": 0, "bodies": 0}
        """How many were dropped since the start, for metrics."""

    def note(self, batch: WriteBatch, kind: Aged, key: bytes, slot: int) -> None:
        """Index what `batch` stores under `key` as of `slot`."""
        before = self._database.get(Column.AGES, _where(kind, key), batch=batch)
        now = slot.to_bytes(_SLOT_BYTES)
        if before == now:
            return
        if before is not None:
            batch.delete(Column.AGES, _queue(kind) + before + key)
        batch.put(Column.AGES, _queue(kind) + now + key, b"")
        batch.put(Column.AGES, _where(kind, key), now)

    def slot_of(self, kind: Aged, key: bytes) -> int | None:
        """Return the slot that `key` was noted at, or None."""
        raw = self._database.get(Column.AGES, _where(kind, key))
        return None if raw is None else int.from_bytes(raw)

    def step(self, batch: WriteBatch, floors: Floors) -> int:
        """Add some deletions of what lies below `floors` to `batch`; return how many keys.

        0 means that nothing is left to drop. Called once a turn it keeps up with any load: a turn
        that stores more keys than `STEP_KEYS` is followed by others.
        """
        tip = self._ledger.tip()
        if tip is not None and floors.ledger:
            self._ledger.raise_first(batch, min(floors.ledger, tip[0]))
        left = self._step_keys
        left -= self._drop_batches(batch, left)
        left -= self._drop_aged(batch, Aged.PROOF, "proofs", floors.proofs, left)
        left -= self._drop_aged(batch, Aged.BODY, "bodies", floors.bodies, left)
        return self._step_keys - left

    def _drop_batches(self, batch: WriteBatch, limit: int) -> int:
        first = self._ledger.first()
        keys = size = 0
        for key, raw in self._walk(Column.LEDGER, b"L", batch):
            if int.from_bytes(key) >= first:
                break
            if keys + _KEYS_A_BATCH > limit or size > STEP_BYTES:
                break
            batch.delete(Column.LEDGER, key)
            batch.delete(Column.LEDGER_DIGESTS, decode_entry(int.from_bytes(key), raw).digest)
            batch.delete(Column.ROOTS, key)
            self._reached[b"L"] = key
            keys, size = keys + _KEYS_A_BATCH, size + len(raw)
            self.dropped["batches"] += 1
        return keys

    def _drop_aged(self, batch: WriteBatch, kind: Aged, name: str, floor: int, limit: int) -> int:
        prefix = _queue(kind)
        keys = 0
        for row, _ in self._walk(Column.AGES, prefix, batch, prefix):
            slot = row[len(prefix) :][:_SLOT_BYTES]
            if int.from_bytes(slot) >= floor or keys + _KEYS_A_BATCH > limit:
                break
            key = row[len(prefix) + _SLOT_BYTES :]
            batch.delete(Column.AGES, row)
            batch.delete(Column.AGES, _where(kind, key))
            batch.delete(kind.column, key)
            self._reached[prefix] = row
            keys += _KEYS_A_BATCH
            self.dropped[name] += 1
        return keys

    def _walk(
        self, column: Column, name: bytes, batch: WriteBatch, prefix: bytes = b""
    ) -> Iterator[Pair]:
        start = self._reached.get(name, b"")
        return self._database.iterate(column, prefix, start=start, batch=batch)


def _queue(kind: Aged) -> bytes:
    return kind + b"<"


def _where(kind: Aged, key: bytes) -> bytes:
    return kind + b"=" + key
