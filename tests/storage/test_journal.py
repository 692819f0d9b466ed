"""The journal: what a crash may take, what it may not, and how each loss is named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from storage import journal as journal_module
from storage.errors import (
    JournalDamagedError,
    JournalError,
    JournalExistsError,
    JournalFailedError,
    JournalLockedError,
    JournalMissingError,
    JournalNotCreatedError,
)
from storage.journal_format import (
    MAX_RECORD_BYTES,
    SEGMENT_HEADER_BYTES,
    read_segment_header,
)
from storage.journal_reader import Recovered, read_journal
from tests.storage.journals import GROUPS, Place, fill, filled, flat, many_segments


def test_what_was_synced_is_read_in_order(place: Place):
    filled(place)
    journal, recovered = place.open()
    assert recovered == Recovered(flat(GROUPS), None)
    fill(journal, [[b"more"]])
    journal.close()
    assert place.payloads() == [*flat(GROUPS), b"more"]


def test_what_was_not_synced_is_gone(place: Place):
    with place.create() as journal:
        journal.append(b"synced")
        journal.sync()
        journal.append(b"not synced")
        assert journal.pending_bytes > 0
    assert place.payloads() == [b"synced"]


def test_one_write_and_one_fsync_for_a_group(place: Place, monkeypatch: pytest.MonkeyPatch):
    with place.create() as journal:
        calls: list[str] = []
        write, fsync = os.write, os.fsync
        monkeypatch.setattr(os, "write", lambda *a: calls.append("write") or write(*a))
        monkeypatch.setattr(os, "fsync", lambda *a: calls.append("fsync") or fsync(*a))
        for number in range(100):
            journal.append(b"%d" % number)
        journal.sync()
        assert calls == ["write", "fsync"]
        journal.sync()
        assert calls == ["write", "fsync"]


def test_segments_are_rotated_by_size(place: Place):
    payloads = many_segments(place)
    assert all(path.stat().st_size <= 1000 for path in place.folder.glob("*.wal"))
    assert place.payloads() == payloads


def test_a_group_larger_than_a_segment_gets_its_own(place: Place):
    groups = [[b"a" * 50], [b"b" * 5000], [b"c" * 50]]
    filled(place, groups, segment_bytes=1000)
    assert len(list(place.folder.glob("*.wal"))) == 3
    assert place.payloads() == flat(groups)


def test_a_crash_while_a_segment_is_started(place: Place):
    filled(place)
    journal, _ = place.open()
    journal.rotate()
    journal.close()
    header = place.last.read_bytes()
    assert len(header) == SEGMENT_HEADER_BYTES
    for torn in [*(header[:size] for size in range(len(header) + 1)), bytes(len(header))]:
        crashed = place.copy("crashed")
        crashed.last.write_bytes(torn)
        journal, recovered = crashed.open()
        assert recovered.payloads == flat(GROUPS)
        fill(journal, [[b"after"]])
        journal.rotate()
        fill(journal, [[b"again"]])
        journal.close()
        assert crashed.payloads() == [*flat(GROUPS), b"after", b"again"]


def test_prune_keeps_the_newest(place: Place):
    payloads = many_segments(place)
    journal, _ = place.open(segment_bytes=1000)
    before = len(journal.segments)
    assert journal.prune(2) == before - 2
    assert journal.prune(2) == 0
    with pytest.raises(JournalError, match="at least 1"):
        journal.prune(0)
    fill(journal, [[b"after"]])
    journal.close()
    kept = place.payloads()
    assert kept[-1] == b"after"
    assert kept[:-1] == payloads[-len(kept) + 1 :]


def test_a_crash_while_pruning(place: Place, monkeypatch: pytest.MonkeyPatch):
    many_segments(place)
    journal, _ = place.open(segment_bytes=1000)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", failing_call)
        with pytest.raises(JournalError, match="cannot prune"):
            journal.prune(1)
    journal.close()
    assert len(list(place.folder.glob("*.wal"))) > 4
    kept = place.payloads()
    assert len(list(place.folder.glob("*.wal"))) == 1
    assert place.payloads() == kept


def test_compaction_by_rotating(place: Place):
    journal = place.create()
    fill(journal, GROUPS)
    journal.rotate()
    journal.append(b"still live")
    journal.sync()
    journal.prune(1)
    journal.close()
    assert place.payloads() == [b"still live"]


def test_a_new_node_is_told_from_one_that_forgot(place: Place):
    with pytest.raises(JournalNotCreatedError):
        place.open()
    filled(place)
    with pytest.raises(JournalExistsError, match="open it instead"):
        place.create()
    shutil.rmtree(place.folder)
    with pytest.raises(JournalMissingError, match="must not sign"):
        place.open()
    place.folder.mkdir()
    with pytest.raises(JournalMissingError):
        place.open()
    with pytest.raises(JournalExistsError):
        place.create()


def test_segments_without_a_marker(place: Place):
    filled(place)
    place.marker.unlink()
    with pytest.raises(JournalDamagedError, match="the marker is missing"):
        place.open()
    with pytest.raises(JournalExistsError, match="restore the marker"):
        place.create()


def test_an_unreadable_marker(place: Place):
    filled(place)
    place.marker.write_bytes(b"")
    with pytest.raises(JournalDamagedError, match="unreadable"):
        place.open()


def test_a_crash_during_creation(place: Place):
    place.create().close()
    header = place.last.read_bytes()
    place.marker.unlink()
    for size in (0, 10, len(header)):
        place.last.write_bytes(header[:size])
        with pytest.raises(JournalNotCreatedError):
            place.open()
    filled(place)
    assert place.payloads() == flat(GROUPS)


def test_the_first_segment_has_its_header(place: Place):
    place.create().close()
    place.last.write_bytes(b"")
    with pytest.raises(JournalDamagedError, match="header is incomplete"):
        place.open()


def test_only_one_may_have_it_open(place: Place):
    with place.create() as journal:
        with pytest.raises(JournalLockedError, match="stop the other node"):
            place.open()
        fill(journal, [[b"kept"]])
        assert read_journal(place.folder).payloads == [b"kept"]
    assert place.payloads() == [b"kept"]


def failing_call(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_failed_sync_is_final(place: Place, monkeypatch: pytest.MonkeyPatch, call: str):
    with place.create() as journal:
        fill(journal, [[b"kept"]])
        journal.append(b"lost")
        with monkeypatch.context() as patch:
            patch.setattr(journal_module.os, call, failing_call)
            with pytest.raises(JournalFailedError, match="No space left"):
                journal.sync()
        for use in (journal.sync, journal.rotate, lambda: journal.append(b"x")):
            with pytest.raises(JournalFailedError, match="restart"):
                use()
    assert place.payloads()[0] == b"kept"


def test_a_short_write_is_continued(place: Place, monkeypatch: pytest.MonkeyPatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    filled(place)
    assert place.payloads() == flat(GROUPS)


def test_bounds(place: Place):
    with place.create() as journal:
        with pytest.raises(JournalError, match="the limit is"):
            journal.append(bytes(MAX_RECORD_BYTES + 1))
        for _ in range(3):
            journal.append(bytes(MAX_RECORD_BYTES))
        with pytest.raises(JournalError, match="unsynced bytes"):
            journal.append(bytes(MAX_RECORD_BYTES))
    with pytest.raises(JournalError, match="is closed"):
        journal.append(b"x")


def test_reading_what_is_no_journal(tmp_path: Path):
    with pytest.raises(JournalMissingError):
        read_journal(tmp_path)
    with pytest.raises(JournalDamagedError):
        read_segment_header(tmp_path, b"x" * 100)
