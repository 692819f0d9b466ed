from __future__ import annotations

import json
from pathlib import Path

import pytest

from storage.errors import VowConflictError, VowError
from storage.journal import Journal
from storage.signing_history import export_history, import_history, parse_history
from storage.vow import VowKey, VowTable, decode_record, encode_record, rebuild

NETWORK = bytes(range(32))
SIGNER = bytes([7]) * 32


def write_journal(folder: Path, *, votes: dict[int, bytes], view: int = 0, seq: int = 0) -> None:
    """Makes a journal with one PREPARE vow for each slot in view 5, then the floors."""
    table = VowTable(SIGNER)
    with Journal.create(folder / "journal", folder / "marker") as journal:
        for slot, payload in votes.items():
            vow = table.promise(VowKey("prepare", 0, 5, slot), payload)
            assert vow is not None
            journal.append(encode_record(vow))
        floor = table.raise_floor(view=(0, view), seq=seq)
        if floor is not None:
            journal.append(encode_record(floor))
        journal.sync()


def read_table(folder: Path) -> VowTable:
    journal, recovered = Journal.open(folder / "journal", folder / "marker")
    journal.close()
    return rebuild(decode_record(payload) for payload in recovered.payloads)[SIGNER]


def export(folder: Path) -> str:
    return export_history(folder / "journal", folder / "marker", NETWORK)


def bring(folder: Path, text: str, network: bytes = NETWORK) -> int:
    history = parse_history(text, Path("history.json"))
    return import_history(folder / "journal", folder / "marker", network, history)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    (tmp_path / "old").mkdir()
    write_journal(tmp_path / "old", votes={11: b"a", 12: b"b"}, view=3, seq=10)
    return tmp_path / "old"


def test_a_fresh_machine_gets_every_vow_and_floor(old: Path, tmp_path: Path) -> None:
    assert bring(tmp_path, export(old)) == 3
    table = read_table(tmp_path)
    assert table.view_floor == (0, 3)
    assert table.seq_floor == 10
    assert table.payload(VowKey("prepare", 0, 5, 11)) == b"a"
    with pytest.raises(VowConflictError):
        table.promise(VowKey("prepare", 0, 5, 12), b"other")


def test_importing_twice_adds_nothing(old: Path, tmp_path: Path) -> None:
    text = export(old)
    bring(tmp_path, text)
    assert bring(tmp_path, text) == 0
    assert export(tmp_path) == text


def test_an_older_history_never_lowers_a_mark(old: Path, tmp_path: Path) -> None:
    older = export(old)
    (tmp_path / "new").mkdir()
    write_journal(tmp_path / "new", votes={21: b"c"}, view=5, seq=20)
    assert bring(tmp_path / "new", older) == 0
    table = read_table(tmp_path / "new")
    assert table.view_floor == (0, 5)
    assert table.seq_floor == 20
    assert table.payload(VowKey("prepare", 0, 5, 21)) == b"c"


def test_a_contradiction_is_refused_and_nothing_is_imported(old: Path, tmp_path: Path) -> None:
    (tmp_path / "twin").mkdir()
    write_journal(tmp_path / "twin", votes={12: b"other"})
    before = export(tmp_path / "twin")
    with pytest.raises(VowConflictError):
        bring(tmp_path / "twin", export(old))
    assert export(tmp_path / "twin") == before


def test_another_networks_history_is_refused(old: Path, tmp_path: Path) -> None:
    with pytest.raises(VowError, match="is of network"):
        bring(tmp_path, export(old), network=bytes(32))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"version": 3}, "version"),
        ({"network_id": "zz"}, "network_id"),
        ({"extra": 1}, "extra"),
        ({"signers": [{"consensus_key": "00"}]}, "signers.0.consensus_key"),
    ],
)
def test_a_malformed_document_names_the_field(old: Path, change: dict, field: str) -> None:
    document = json.loads(export(old)) | change
    with pytest.raises(VowError, match=field):
        parse_history(json.dumps(document), Path("history.json"))
