"""The signing history as a document: to move a validator to another machine without signing twice.

Format (JSON, version 2):

    {"version": 2,
     "network_id": hex,
     "signers": [{"consensus_key": hex,
                  "floors": {"epoch": int, "view": int, "seq": int},
                  "vows": [{"phase": str, "epoch": int, "view": int|null, "seq": int|null,
                            "payload": hex}]}],
     "notes": [{"kind": str, "seq": int, "view": int, "body": hex}]}

A COMMIT rests on a prepared certificate that its signer must name in every later VIEW-CHANGE until
the slot is decided. The notes carry what that needs: tips, prepared certificates and proposals
above the last stable checkpoint, the open view and epoch, and own statements. A node that came back
without them could help another batch to a certificate, with every vow kept; and where it alone
holds the body of a slot that it helped to decide, nobody could ever execute that slot.

Rules:
1. An import only adds: floors rise or stay, vows are added or are already there. Importing an older
   history therefore never lowers a mark.
2. A vow that contradicts one already in the journal is refused, and nothing is imported: two nodes
   have signed with this key, and its owner must be told.
3. Stop the exporting node first. What it signs after the export is not in the document.
4. A document of version 1 has no notes. Its key signs nothing more in the epoch of its floor, and
   votes again from the next one on: no slot of an epoch gone by is decided in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protocol.errors import DecodeError
from storage.errors import JournalNotCreatedError, VowError
from storage.journal import Journal
from storage.vow import (
    JournalRecord,
    Note,
    Vow,
    VowKey,
    VowTable,
    decode_record,
    encode_record,
    rebuild,
)

_BY_SEQ = ("epoch", "tip")
_NEWEST_COUNTS = (*_BY_SEQ, "new-view")
_NOT_OF_SLOTS = ("epoch", "new-view", "statement")
KEPT_STATEMENTS = 32
"""More than a validator ever has waiting to be ordered."""

Hex = Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$")]
Counter = Annotated[int, Field(ge=0, lt=2**63)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Floors(_Model):
    """Below these nothing may be signed."""

    epoch: Counter
    view: Counter
    seq: Counter


class VowEntry(_Model):
    """One promise."""

    phase: str
    epoch: Counter
    view: Counter | None
    seq: Counter | None
    payload: Hex


class NoteEntry(_Model):
    """One thing that a promise rests on."""

    kind: Annotated[str, Field(min_length=1, max_length=64)]
    seq: Counter
    view: Counter
    body: Hex


class SignerHistory(_Model):
    """What one consensus key has promised."""

    consensus_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    floors: Floors
    vows: tuple[VowEntry, ...]


class SigningHistory(_Model):
    """The document."""

    version: Literal[1, 2]
    network_id: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    signers: tuple[SignerHistory, ...]
    notes: tuple[NoteEntry, ...] = ()


def parse_history(text: str, source: Path) -> SigningHistory:
    """Read a document; `VowError` names the field that is wrong."""
    try:
        return SigningHistory.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the document"
        raise VowError(f"signing history {source}: {field}: {first['msg']}") from error


def export_history(folder: Path, marker: Path, network_id: bytes) -> str:
    """Return the signing history in a journal as JSON. The node must not be running."""
    journal, recovered = Journal.open(folder, marker)
    with journal:
        records = [decode_record(payload) for payload in recovered.payloads]
    tables = rebuild(records)
    signers = tuple(_history(table) for _, table in sorted(tables.items()))
    floor = max((table.seq_floor for table in tables.values()), default=0)
    notes = tuple(
        NoteEntry(kind=note.kind, seq=note.seq, view=note.view, body=note.body.hex())
        for note in needed_notes(records, floor)
    )
    document = SigningHistory(version=2, network_id=network_id.hex(), signers=signers, notes=notes)
    return json.dumps(document.model_dump(), indent=1) + "\n"


def needed_notes(records: Iterable[JournalRecord], floor: int) -> list[Note]:
    """Return the notes that somebody may still need, in the journal's order.

    Of the epoch and the open view the newest one counts; of tips, prepared certificates and
    proposals those above `floor`, the last stable checkpoint, and the newest tip in any case; of
    own statements the last ones.
    """
    return needed((record for record in records if isinstance(record, Note)), floor)


class _Noted(Protocol):
    @property
    def kind(self) -> str: ...

    @property
    def seq(self) -> int: ...


N = TypeVar("N", bound=_Noted)


def needed(found: Iterable[N], floor: int) -> list[N]:
    """Return what `needed_notes` keeps of notes in whatever form."""
    notes = list(dict.fromkeys(found))
    newest = {note.kind: note for note in notes if note.kind in _NEWEST_COUNTS}
    statements = [note for note in notes if note.kind == "statement"][-KEPT_STATEMENTS:]
    kept = {*newest.values(), *statements}
    of_slots = (note for note in notes if note.kind not in _NOT_OF_SLOTS and note.seq > floor)
    kept.update(of_slots)
    return [note for note in notes if note in kept]


def _history(table: VowTable) -> SignerHistory:
    epoch, view = table.view_floor
    vows = [record for record in table.live_records() if isinstance(record, Vow)]
    return SignerHistory(
        consensus_key=table.signer.hex(),
        floors=Floors(epoch=epoch, view=view, seq=table.seq_floor),
        vows=tuple(
            VowEntry(
                phase=vow.phase,
                epoch=vow.epoch,
                view=vow.view,
                seq=vow.seq,
                payload=vow.payload.hex(),
            )
            for vow in vows
        ),
    )


def import_history(folder: Path, marker: Path, network_id: bytes, history: SigningHistory) -> int:
    """Add a history to a journal, made if there is none; return how many records were added.

    Raises `VowError` for another network's history, for a contradiction, and for a document that no
    journal could hold; nothing is added then.
    """
    if history.network_id != network_id.hex():
        raise VowError(
            f"the history is of network {history.network_id[:16]}, this is {network_id.hex()[:16]}"
        )
    try:
        journal, recovered = Journal.open(folder, marker)
    except JournalNotCreatedError:
        journal, payloads = Journal.create(folder, marker), []
    else:
        payloads = recovered.payloads
    with journal:
        records = [decode_record(payload) for payload in payloads]
        tables = rebuild(records)
        # The notes first: no vow may be durable before what it rests on.
        added = _missing_notes(records, history.notes)
        for signer in history.signers:
            key = bytes.fromhex(signer.consensus_key)
            table = tables.get(key) or VowTable(key)
            added += _merge(table, signer, is_bare=history.version == 1)
        for payload in added:
            journal.append(payload)
        if added:
            journal.sync()
    return len(added)


def skip_epochs(folder: Path, marker: Path, signer: bytes, last: int) -> None:
    """Let a key sign nothing up to and including epoch `last`, whatever its journal remembers.

    For a journal that may be older than what the key has signed: that of a restored backup or disk
    image. Raises the errors of `Journal.open`.
    """
    journal, recovered = Journal.open(folder, marker)
    with journal:
        tables = rebuild(decode_record(payload) for payload in recovered.payloads)
        table = tables.get(signer) or VowTable(signer)
        raised = table.raise_floor(view=(last + 1, 0))
        if raised is not None:
            journal.append(encode_record(raised))
            journal.sync()


def _missing_notes(records: list[JournalRecord], entries: tuple[NoteEntry, ...]) -> list[bytes]:
    """Return the journal payloads of the notes that are neither there nor overtaken."""
    known = {record for record in records if isinstance(record, Note)}
    newest = {kind: max((n.seq for n in known if n.kind == kind), default=-1) for kind in _BY_SEQ}
    found = [
        Note(kind=entry.kind, body=bytes.fromhex(entry.body), seq=entry.seq, view=entry.view)
        for entry in entries
    ]
    try:
        return [
            encode_record(note)
            for note in found
            if note not in known and note.seq > newest.get(note.kind, -1)
        ]
    except DecodeError as error:
        raise VowError(f"signing history: a note that no journal holds: {error}") from error


def _merge(table: VowTable, signer: SignerHistory, *, is_bare: bool) -> list[bytes]:
    """Return the journal payloads that bring `table` to at least what `signer` says.

    `is_bare`: the history came without the notes that its vows rest on (rule 4).
    """
    payloads = []
    for entry in signer.vows:
        key = VowKey(entry.phase, entry.epoch, entry.view, entry.seq)
        if table.is_below_floor(key):
            continue
        vow = table.promise(key, bytes.fromhex(entry.payload))
        if vow is not None:
            payloads.append(encode_record(vow))
    floors = signer.floors
    floor = (floors.epoch + 1, 0) if is_bare else (floors.epoch, floors.view)
    view = max(floor, table.view_floor)
    raised = table.raise_floor(view=view, seq=max(floors.seq, table.seq_floor))
    if raised is not None:
        payloads.append(encode_record(raised))
    return payloads
