"""The records' own database: it is begun anew when it is damaged, never by looking at it."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.database import Database
from tests.support import World
from validator_node.records.assembly import RecordParts


def put(state_dir: Path, key: str) -> None:
    parts = RecordParts(state_dir, World().genesis)
    parts.kept.put(key, b"value", own=True)
    parts.close()


def has(state_dir: Path, key: str) -> bool:
    parts = RecordParts(state_dir, World().genesis)
    found = parts.kept.get(key) is not None
    parts.close()
    return found


@pytest.mark.parametrize("pattern", ["CURRENT", "MANIFEST-*", "*.ldb"])
@pytest.mark.parametrize("emptied", [False, True])
def test_damaged_records_begin_anew_and_stay_beside(tmp_path: Path, pattern: str, emptied: bool):
    key = "/node/x/" + 64 * "0"
    put(tmp_path, key)
    assert has(tmp_path, key)  # and the log became a table
    file = next(iter((tmp_path / "dht").glob(pattern)))
    if emptied:
        file.write_bytes(b"")
    else:
        file.unlink()
    assert not has(tmp_path, key)
    kept = tmp_path / "dht.damaged"
    assert kept.is_dir()
    assert len(list(kept.iterdir())) > 3  # what was left of it
    put(tmp_path, key)
    assert has(tmp_path, key)


def test_records_that_are_open_elsewhere_are_not_begun_anew(tmp_path: Path):
    put(tmp_path, "/node/x/1")
    with (
        Database.open(tmp_path / "dht"),
        pytest.raises(Exception, match="open in process"),
    ):
        RecordParts(tmp_path, World().genesis)
    assert not (tmp_path / "dht.damaged").exists()
