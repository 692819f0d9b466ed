"""The signing guard: what this node has promised, so that it never signs two things for one place.

A *vow* says which bytes were signed for a key (phase, epoch, view, seq). A validator that signed
twice for one key could help two different batches to a quorum; one that forgets is as dangerous
as one that lies. (consensus.md, rules 7 and 8)

Rules:
1. Order: `promise`, then `journal.append(encode_record(vow))`, then `journal.sync()`, then sign and
   send. The table is memory only and is rebuilt from the journal by `rebuild`.
2. One key, one payload. The same payload again is allowed: ed25519 is deterministic, so signing it
   again gives the bytes that were sent before.
3. A key with a view is refused below the *view floor*, the highest (epoch, view) entered or asked
   for. A key with a sequence is refused at or below the *seq floor*, the last stable checkpoint.
   Phases not bound to one of them leave it None: a VIEW-CHANGE has no seq, a CHECKPOINT no view.
4. Floors only rise. The floors come first: below them even the same payload is refused, and the
   vows there are forgotten.
5. The table knows no message. Phases are names chosen by the caller; PREPARE and REJECT share one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from protocol.codec import U64, Name, PublicKey, Record, decode, encode
from protocol.errors import DecodeError
from storage.errors import VowBelowFloorError, VowConflictError, VowError
from storage.journal_format import MAX_RECORD_BYTES


class VowKey(NamedTuple):
    """The place a signature fills: at most one payload is ever signed for it."""

    phase: str
    epoch: int
    view: int | None
    seq: int | None

    def __str__(self) -> str:
        """Return the key as it is written in errors and reports."""
        return f"{self.phase} epoch {self.epoch} view {self.view} seq {self.seq}"


class Vow(Record, tag="vow"):
    """Journal record: `signer` promises to sign nothing but `payload` for this key."""

    signer: PublicKey
    phase: Name
    epoch: U64
    view: U64 | None
    seq: U64 | None
    payload: bytes
    """The exact bytes that are signed."""

    @property
    def key(self) -> VowKey:
        """The place this vow fills."""
        return VowKey(self.phase, self.epoch, self.view, self.seq)


class FloorRaised(Record, tag="floor"):
    """Journal record: all floors of `signer` after one of them was raised."""

    signer: PublicKey
    epoch: U64
    view: U64
    seq: U64


class Note(Record, tag="note"):
    """Journal record of the caller's own: `body` means nothing here.

    `seq` and `view` tell when a note is no longer needed, without reading its body.
    """

    kind: Name
    body: bytes
    seq: U64
    view: U64


JournalRecord = Vow | FloorRaised | Note
"""Everything that is ever appended to the journal."""


def encode_record(record: JournalRecord) -> bytes:
    """Return the payload for `Journal.append`.

    Raises `DecodeError` for a record that could not be read again (a name or number out of its
    bounds): found at the next start, it would cost the node its memory.
    """
    payload = encode(record)
    decode_record(payload)
    return payload


def decode_record(payload: bytes) -> JournalRecord:
    """Return the record in a journal's payload. Raises `DecodeError`."""
    record: JournalRecord = decode(JournalRecord, payload, limit_bytes=MAX_RECORD_BYTES)
    return record


class VowTable:
    """The vows and floors of one signer. See the module's rules for the order of steps."""

    def __init__(self, signer: bytes) -> None:
        self._signer = signer
        self._vows: dict[VowKey, bytes] = {}
        self._view_floor = (0, 0)
        self._seq_floor = 0

    @property
    def signer(self) -> bytes:
        """The public key whose promises these are."""
        return self._signer

    @property
    def view_floor(self) -> tuple[int, int]:
        """The lowest (epoch, view) that may still be signed for."""
        return self._view_floor

    @property
    def seq_floor(self) -> int:
        """The highest sequence that may no longer be signed for; 0 at the start."""
        return self._seq_floor

    def __len__(self) -> int:
        return len(self._vows)

    def check(self, key: VowKey, payload: bytes) -> Literal["new", "same"]:
        """Say whether signing `payload` for `key` would be a new vow or repeat one; change nothing.

        Raises `VowBelowFloorError`, `VowConflictError`, and `VowError` for a key that has neither
        view nor sequence and so could never be forgotten.
        """
        if key.view is None and key.seq is None:
            raise VowError(f"vow {key}: needs a view or a sequence")
        below = self._below_floor(key)
        if below:
            raise VowBelowFloorError(f"vow {key}: {below}")
        return self._compare(key, payload)

    def promise(self, key: VowKey, payload: bytes) -> Vow | None:
        """Make the vow, and return the record to append and sync before signing.

        None means the same vow stands already: its record is appended, and if that was in this
        very turn, perhaps not yet synced. Raises what `check` raises, and then changes nothing.
        """
        if self.check(key, payload) == "same":
            return None
        vow = Vow(signer=self._signer, payload=payload, **key._asdict())
        try:
            encode_record(vow)
        except DecodeError as error:
            raise VowError(f"vow {key}: not a valid record: {error}") from error
        self._vows[key] = payload
        return vow

    def is_below_floor(self, key: VowKey) -> bool:
        """Return whether nothing may be signed for `key` any more."""
        return bool(self._below_floor(key))

    def payload(self, key: VowKey) -> bytes | None:
        """Return the bytes promised for `key`, to send them again, or None."""
        return self._vows.get(key)

    def raise_floor(
        self, *, view: tuple[int, int] | None = None, seq: int | None = None
    ) -> FloorRaised | None:
        """Raise the view floor to (epoch, view), the seq floor to `seq`, or both.

        Returns the record to append and sync before acting on it, or None when neither rises: a
        lower value is no error. Vows that fall below are forgotten.
        """
        new_view = max(self._view_floor, view or self._view_floor)
        new_seq = max(self._seq_floor, seq or 0)
        if (new_view, new_seq) == (self._view_floor, self._seq_floor):
            return None
        self._view_floor, self._seq_floor = new_view, new_seq
        self._vows = {key: kept for key, kept in self._vows.items() if not self._below_floor(key)}
        return self._floor_record()

    def live_records(self) -> Iterator[Vow | FloorRaised]:
        """Yield the floors and the vows above them: what a new journal segment must repeat."""
        yield self._floor_record()
        for key, payload in self._vows.items():
            yield Vow(signer=self._signer, payload=payload, **key._asdict())

    def replay(self, record: Vow | FloorRaised) -> None:
        """Take over a journal record of this signer, in the journal's order; repeats are harmless.

        Raises `VowConflictError` when the journal itself holds two payloads for one key.
        """
        if isinstance(record, FloorRaised):
            self.raise_floor(view=(record.epoch, record.view), seq=record.seq)
        elif not self._below_floor(record.key):
            self._compare(record.key, record.payload)
            self._vows[record.key] = record.payload

    def _compare(self, key: VowKey, payload: bytes) -> Literal["new", "same"]:
        known = self._vows.get(key)
        if known is None:
            return "new"
        if known == payload:
            return "same"
        raise VowConflictError(
            f"vow {key}: refusing {payload.hex()[:64]}, promised is {known.hex()[:64]}"
        )

    def _below_floor(self, key: VowKey) -> str:
        """Return why `key` may no longer be signed for, or nothing."""
        if key.view is not None and (key.epoch, key.view) < self._view_floor:
            return f"the view floor is epoch {self._view_floor[0]} view {self._view_floor[1]}"
        if key.seq is not None and key.seq <= self._seq_floor:
            return f"the seq floor is {self._seq_floor}"
        return ""

    def _floor_record(self) -> FloorRaised:
        epoch, view = self._view_floor
        return FloorRaised(signer=self._signer, epoch=epoch, view=view, seq=self._seq_floor)


def rebuild(records: Iterable[JournalRecord]) -> dict[bytes, VowTable]:
    """Return the vow table of every signer in a journal; a node that changed its key has two.

    All of them belong into a new segment (`live_records`), or going back to an old key would be to
    forget. Raises `VowConflictError`.
    """
    tables: dict[bytes, VowTable] = {}
    for record in records:
        if isinstance(record, Note):
            continue
        table = tables.setdefault(record.signer, VowTable(record.signer))
        table.replay(record)
    return tables
