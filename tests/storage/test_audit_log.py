"""The audit log: one chain through restarts, rotations and crashes, and every change shows."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from protocol.codec import ZERO_DIGEST, decode, encode
from storage.audit_log import (
    AuditBounds,
    AuditEntry,
    AuditError,
    AuditLog,
    Evaluated,
    read_audit,
    verify_audit,
)
from storage.database import Column, Database, WriteBatch
from validator_node.cli import audit

SMALL = AuditBounds(max_entries=10, segment=4, max_files=3)


def event(number: int, fault: str = "") -> Evaluated:
    return Evaluated(
        time_ms=1_700_000_000_000 + number,
        job_id=number,
        submission_id=number.to_bytes(32, "big"),
        module_hash=b"\x02" * 32,
        policy_hash=b"\x03" * 32,
        outcome_class="" if fault else "ok",
        verdict_hash=ZERO_DIGEST if fault else b"\x04" * 32,
        fuel_used=1_000 + number,
        host_calls=(("log", 2), ("sha256", 1)),
        fault=fault,
    )


def opened(folder: Path) -> Database:
    return Database.open(folder / "db", create=True)


def filled(database: Database, folder: Path, count: int, bounds: AuditBounds = SMALL) -> AuditLog:
    log = AuditLog(database, folder / "audit", bounds)
    for number in range(count):
        log.append(event(number))
        if number % 3 == 2:
            log.flush()
    log.flush()
    return log


def test_entries_come_back_in_order_and_chained(tmp_path: Path) -> None:
    with opened(tmp_path) as database:
        log = filled(database, tmp_path, 5)
        entries = list(read_audit(database, tmp_path / "audit"))
        assert [entry.event for entry in entries] == [event(n) for n in range(5)]
        assert entries[0].previous == ZERO_DIGEST
        assert [e.previous for e in entries[1:]] == [e.digest() for e in entries[:-1]]
        report = verify_audit(database, tmp_path / "audit")
        assert (report.first, report.last, report.head) == (0, 4, log.head)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9])
def test_a_restart_goes_on_with_the_chain(tmp_path: Path, count: int) -> None:
    with opened(tmp_path) as database:
        head = filled(database, tmp_path, count).head
    with opened(tmp_path) as database:
        log = AuditLog(database, tmp_path / "audit", SMALL)
        assert (len(log), log.head) == (count, head)
        assert log.append(event(count)).previous == head
        log.flush()
        assert verify_audit(database, tmp_path / "audit").last == count


def test_what_was_not_flushed_is_lost_and_breaks_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as database:
        log = filled(database, tmp_path, 3)
        log.append(event(3))
        assert log.pending == 1
    with opened(tmp_path) as database:
        log = AuditLog(database, tmp_path / "audit", SMALL)
        assert len(log) == 3
        log.append(event(99))
        log.flush()
        assert verify_audit(database, tmp_path / "audit").last == 3


def test_rotation_carries_the_chain_over_and_bounds_everything(tmp_path: Path) -> None:
    with opened(tmp_path) as database:
        log = filled(database, tmp_path, 40)
        files = sorted(path.name for path in (tmp_path / "audit").iterdir())
        assert len(files) == SMALL.max_files
        assert all((tmp_path / "audit" / name).stat().st_mode & 0o777 == 0o600 for name in files)
        assert sum(1 for _ in database.iterate(Column.AUDIT)) <= SMALL.max_entries
        report = verify_audit(database, tmp_path / "audit")
        assert (report.first, report.last, report.head) == (20, 39, log.head)
        assert report.files == SMALL.max_files
    with opened(tmp_path) as database:
        assert AuditLog(database, tmp_path / "audit", SMALL).head == log.head


def test_a_crash_between_file_and_deletion_shows_each_entry_once(tmp_path: Path) -> None:
    with opened(tmp_path) as database:
        filled(database, tmp_path, 11)
        (path,) = (tmp_path / "audit").iterdir()
        content = path.read_bytes()
        batch = WriteBatch()
        at = position = 0
        while at < len(content):
            size = int.from_bytes(content[at : at + 4], "big")
            row = content[at + 4 : at + 4 + size]
            batch.put(Column.AUDIT, position.to_bytes(8, "big"), row)
            at, position = at + 4 + size, position + 1
        database.write(batch)
        assert position == 4
        log = AuditLog(database, tmp_path / "audit", SMALL)
        assert (len(log), verify_audit(database, tmp_path / "audit").last) == (11, 10)
        log.append(event(11))
        log.flush()
        report = verify_audit(database, tmp_path / "audit")
        assert (report.first, report.last, report.files) == (0, 11, 1)


def test_a_new_database_goes_on_after_the_files(tmp_path: Path) -> None:
    with opened(tmp_path) as database:
        filled(database, tmp_path, 11)
    with Database.open(tmp_path / "other", create=True) as database:
        log = AuditLog(database, tmp_path / "audit", SMALL)
        assert len(log) == 4
        log.append(event(4))
        log.flush()
        assert verify_audit(database, tmp_path / "audit").last == 4


def change(database: Database, position: int, **values: object) -> None:
    key = position.to_bytes(8, "big")
    row = database.get(Column.AUDIT, key)
    assert row is not None
    entry = decode(AuditEntry, row)
    changed = msgspec.structs.replace(entry, event=msgspec.structs.replace(entry.event, **values))
    batch = WriteBatch()
    batch.put(Column.AUDIT, key, encode(changed))
    database.write(batch)


def test_a_changed_a_missing_and_a_damaged_entry_are_named(tmp_path: Path) -> None:
    with opened(tmp_path) as database:
        filled(database, tmp_path, 5)
        change(database, 2, fuel_used=7)
        with pytest.raises(AuditError, match="entry 3 does not follow entry 2"):
            verify_audit(database, tmp_path / "audit")
        for content, words in ((None, "entry 3 follows entry 1"), (b"?", "position 2")):
            batch = WriteBatch()
            key = (2).to_bytes(8, "big")
            if content is None:
                batch.delete(Column.AUDIT, key)
            else:
                batch.put(Column.AUDIT, key, content)
            database.write(batch)
            with pytest.raises(AuditError, match=words):
                verify_audit(database, tmp_path / "audit")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    with opened(tmp_path) as database:
        filled(database, tmp_path, 11)
        (path,) = (tmp_path / "audit").iterdir()
        whole = path.read_bytes()
        for content in (whole[:-1], whole[:50] + b"?" + whole[51:], b"\xff" * 9):
            path.write_bytes(content)
            with pytest.raises(AuditError):
                verify_audit(database, tmp_path / "audit")


def test_bounds_that_could_lose_the_end_are_refused() -> None:
    for bounds in ((10, 11, 1), (10, 0, 1), (10, 5, 0)):
        with pytest.raises(ValueError, match="audit log"):
            AuditBounds(*bounds)


def test_the_commands(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(
        'genesis = "genesis.bin"\nkeystore = "keystore"\nstate_dir = "."\nchain_dir = "chain"\n'
    )
    with opened(tmp_path) as database:
        log = filled(database, tmp_path, 12)
        middle = log.append(event(12, fault="deadline"))
        log.append(event(13))
        log.flush()

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(audit.app, [*arguments, "--config", str(config)])
        return result.exit_code, result.stdout

    assert run("verify") == (
        0,
        f"entries 0 to 13 are one chain, 1 files beside the database\nhead {log.head.hex()}\n",
    )
    assert run("verify", "--head", middle.digest().hex())[0] == 0
    code, shown = run("verify", "--json", "--head", "00")
    assert (code, json.loads(shown)["whole"]) == (1, False)
    code, shown = run("show", "--faults", "--json")
    assert code == 0
    (line,) = [json.loads(text) for text in shown.splitlines()]
    assert (line["position"], line["fault"], line["outcome_class"]) == (12, "deadline", None)
    code, shown = run("show", "--last", "2")
    assert (code, "fault: deadline" in shown, shown.count("ok")) == (0, True, 1)
    with opened(tmp_path) as database:
        change(database, 12, fault="", outcome_class="ok")
    assert run("verify")[0] == 1
