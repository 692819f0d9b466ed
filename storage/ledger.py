"""The decided batches by sequence, each with its certificate.

Rules:
1. A sequence is decided once. The next one is `tip + 1`; a gap, or another digest for a sequence
   already held, raises `LedgerError`. The same digest again changes nothing: the certificates may
   differ (another quorum), and the first is kept.
2. `digest` is the chain hash of its sequence, for each header names its parent's digest. The bytes
   of body and certificate are opaque here; the caller has verified them.
3. A ledger starts at an *anchor*: genesis as sequence 0, or the checkpoint of a snapshot. The
   anchor's own batch is not held. A later anchor may lie ahead of the tip (state transfer); what
   lies below it is then not held either.
4. What lies below `first` is no longer held: it was pruned (`storage.retention`), or lies behind an
   anchor. `first` rises at once and what is below it is deleted bit by bit afterwards, so `get` and
   `range` answer by `first` and not by what is still on the disk.
5. `put` takes effect at once for reads through this object, and on disk with the batch
   (`storage.database.OpenBatch`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from protocol.codec import U64, Digest, Record, decode, encode
from protocol.errors import DecodeError
from storage.database import Column, Database, Meta, OpenBatch, WriteBatch
from storage.errors import LedgerError

MAX_ENTRY_BYTES = 16 * 1024 * 1024
"""Body and certificate together; a batch is at most 256 KiB, the rest is room for certificates."""

R = TypeVar("R", bound=Record)

_SEQ_BYTES = 8
_DIGEST_BYTES = 32


class LedgerTip(Record):
    """The last decided sequence and its digest."""

    seq: U64
    digest: Digest


class LedgerEntry(Record):
    """A decided batch as it is stored."""

    seq: U64
    digest: Digest
    body: bytes
    certificate: bytes


class Ledger:
    """The ledger in a database. One object a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._batch = OpenBatch()

    def tip(self) -> tuple[int, bytes] | None:
        """Return (seq, digest) of the last decided batch or of the anchor; None before both."""
        raw = self._read(Column.META, Meta.TIP)
        if raw is None:
            return None
        tip = _decode(LedgerTip, raw, "tip")
        return tip.seq, tip.digest

    def first(self) -> int:
        """Return the first slot that is held, or will be when it is decided; 1 for all of them.

        `get` returns None for a slot below it that was decided long ago, as it does for one above
        the tip that is not decided yet: this tells the two apart.
        """
        raw = self._read(Column.META, Meta.FIRST)
        return 1 if raw is None else int.from_bytes(raw)

    def raise_first(self, write_batch: WriteBatch, seq: int) -> None:
        """Hold nothing below `seq` any more (rule 4); a lower `seq` than `first` changes nothing.

        Raises `LedgerError` when `seq` lies above the tip: the newest batch is always held.
        """
        tip = self.tip()
        if tip is None or seq > tip[0]:
            raise LedgerError(f"ledger: cannot drop everything below {seq}, the tip is {tip}")
        if seq > self.first():
            self._batch.join(write_batch)
            write_batch.put(Column.META, Meta.FIRST, _seq_key(seq))

    def anchor(self, write_batch: WriteBatch, seq: int, digest: bytes) -> None:
        """Let the ledger go on from `seq`, whose batch it does not hold (rule 3).

        Raises `LedgerError` when `seq` is not above the tip, unless it is the tip itself.
        """
        _check_digest(seq, digest)
        tip = self.tip()
        if tip == (seq, digest):
            return
        if tip is not None and seq <= tip[0]:
            raise LedgerError(f"ledger: anchor at {seq} is not above the tip {tip[0]}")
        self._batch.join(write_batch)
        write_batch.put(Column.META, Meta.FIRST, _seq_key(seq + 1))
        self._set_tip(write_batch, seq, digest)

    def put(
        self, write_batch: WriteBatch, seq: int, digest: bytes, body: bytes, certificate: bytes
    ) -> bool:
        """Add the batch decided for `seq` to `write_batch`; return False when it is held already.

        Without an anchor the first sequence is 1. Raises `LedgerError` (rule 1), also when body
        and certificate are too large or the digest is known under another sequence.
        """
        _check_digest(seq, digest)
        tip = self.tip()
        last = tip[0] if tip is not None else 0
        if seq <= last:
            self._check_known(seq, digest, tip)
            return False
        if seq != last + 1:
            raise LedgerError(f"ledger: sequence {seq} leaves a gap, the next one is {last + 1}")
        if self._read(Column.LEDGER_DIGESTS, digest) is not None:
            raise LedgerError(f"ledger: digest {digest.hex()} is known under another sequence")
        raw = encode(LedgerEntry(seq=seq, digest=digest, body=body, certificate=certificate))
        if len(raw) > MAX_ENTRY_BYTES:
            raise LedgerError(f"ledger: {len(raw)} bytes for {seq}, the limit is {MAX_ENTRY_BYTES}")
        self._batch.join(write_batch)
        write_batch.put(Column.LEDGER, _seq_key(seq), raw)
        write_batch.put(Column.LEDGER_DIGESTS, digest, _seq_key(seq))
        self._set_tip(write_batch, seq, digest)
        return True

    def get(self, seq: int) -> LedgerEntry | None:
        """Return the batch decided for `seq`, or None when it is not held."""
        if seq < self.first():
            return None
        raw = self._read(Column.LEDGER, _seq_key(seq))
        if raw is None:
            return None
        return decode_entry(seq, raw)

    def by_digest(self, digest: bytes) -> LedgerEntry | None:
        """Return the batch with this digest, or None when it is not held."""
        raw = self._read(Column.LEDGER_DIGESTS, digest)
        return None if raw is None else self.get(int.from_bytes(raw))

    def range(self, first: int, last: int) -> Iterator[LedgerEntry]:
        """Yield the batches from `first` to `last`, both included, and stop at the first not held.

        The caller bounds the range: nothing here limits how much one reads for a peer.
        """
        for seq in range(first, last + 1):
            entry = self.get(seq)
            if entry is None:
                return
            yield entry

    def _check_known(self, seq: int, digest: bytes, tip: tuple[int, bytes] | None) -> None:
        if (seq, digest) == tip:
            return
        known = self.get(seq)
        if known is None:
            raise LedgerError(f"ledger: sequence {seq} is below the first one held")
        if known.digest != digest:
            raise LedgerError(
                f"ledger: sequence {seq} is decided as {known.digest.hex()}, not {digest.hex()}"
            )

    def _set_tip(self, write_batch: WriteBatch, seq: int, digest: bytes) -> None:
        write_batch.put(Column.META, Meta.TIP, encode(LedgerTip(seq=seq, digest=digest)))

    def _read(self, column: Column, key: bytes) -> bytes | None:
        return self._database.get(column, key, batch=self._batch.current())


def decode_entry(seq: int, raw: bytes) -> LedgerEntry:
    """Return the entry stored under `seq`; `LedgerError` if it is unreadable or another slot's."""
    entry = _decode(LedgerEntry, raw, f"sequence {seq}")
    if entry.seq != seq:
        raise LedgerError(f"ledger: sequence {entry.seq} is stored as {seq}")
    return entry


def _seq_key(seq: int) -> bytes:
    return seq.to_bytes(_SEQ_BYTES)


def _check_digest(seq: int, digest: bytes) -> None:
    if seq < 0 or len(digest) != _DIGEST_BYTES:
        raise LedgerError(
            f"ledger: sequence {seq} with a digest of {len(digest)} bytes, expected {_DIGEST_BYTES}"
        )


def _decode(kind: type[R], raw: bytes, what: str) -> R:
    try:
        value: R = decode(kind, raw, limit_bytes=MAX_ENTRY_BYTES)
    except DecodeError as error:
        raise LedgerError(f"ledger: {what} is unreadable: {error}") from error
    return value
