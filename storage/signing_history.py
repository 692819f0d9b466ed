"""The signing history as a document: to move a validator to another machine without signing twice.

Format (JSON, version 1):

    {"version": 1,
     "network_id": hex,
     "signers": [{"consensus_key": hex,
                  "floors": {"epoch": int, "view": int, "seq": int},
                  "vows": [{"phase": str, "epoch": int, "view": int|null, "seq": int|null,
                            "payload": hex}]}]}

Rules:
1. An import only adds: floors rise or stay, vows are added or are already there. Importing an older
   history therefore never lowers a mark.
2. A vow that contradicts one already in the journal is refused, and nothing is imported: two nodes
   have signed with this key, and its owner must be told.
3. Stop the exporting node first. What it signs after the export is not in the document.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from storage.errors import JournalNotCreatedError, VowError
from storage.journal import Journal
from storage.vow import Vow, VowKey, VowTable, decode_record, encode_record, rebuild

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


class SignerHistory(_Model):
    """What one consensus key has promised."""

    consensus_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    floors: Floors
    vows: tuple[VowEntry, ...]


class SigningHistory(_Model):
    """The document."""

    version: Literal[1]
    network_id: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    signers: tuple[SignerHistory, ...]


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
        tables = rebuild(decode_record(payload) for payload in recovered.payloads)
    signers = tuple(_history(table) for _, table in sorted(tables.items()))
    document = SigningHistory(version=1, network_id=network_id.hex(), signers=signers)
    return json.dumps(document.model_dump(), indent=1) + "\n"


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

    Raises `VowError` for another network's history and for a contradiction; nothing is added then.
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
        tables = rebuild(decode_record(payload) for payload in payloads)
        added = 0
        for signer in history.signers:
            key = bytes.fromhex(signer.consensus_key)
            for payload in _merge(tables.get(key) or VowTable(key), signer):
                journal.append(payload)
                added += 1
        if added:
            journal.sync()
    return added


def _merge(table: VowTable, signer: SignerHistory) -> list[bytes]:
    """Return the journal payloads that bring `table` to at least what `signer` says."""
    payloads = []
    for entry in signer.vows:
        key = VowKey(entry.phase, entry.epoch, entry.view, entry.seq)
        if table.is_below_floor(key):
            continue
        vow = table.promise(key, bytes.fromhex(entry.payload))
        if vow is not None:
            payloads.append(encode_record(vow))
    floors = signer.floors
    view = max((floors.epoch, floors.view), table.view_floor)
    raised = table.raise_floor(view=view, seq=max(floors.seq, table.seq_floor))
    if raised is not None:
        payloads.append(encode_record(raised))
    return payloads
