"""The records of submissions on the disk, and a real process that is killed at each step."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from chain.errors import ChainError, ChainErrorCode
from chain.submission_state import Stage, SubmissionRecord
from tests.chain.support import ALICE, BOB, VECTOR
from tests.validator_node.submission_process import book_at, chain_at, vector_of
from validator_node.submission_book import KEPT_EPOCHS, SubmissionBook, SubmissionBookError

RECORD = SubmissionRecord(epoch=3, mechanism=1, source_epoch=3, since_block=20, vector=VECTOR)
ROOT = Path(__file__).parents[2]
DEADLINE_S = 90


def opened(folder: Path, hotkey: bytes = ALICE.public_key) -> SubmissionBook:
    return SubmissionBook.open(folder, network_id=bytes(32), hotkey=hotkey)


def files_in(folder: Path) -> int:
    return len(list(folder.iterdir()))


async def test_what_was_saved_is_there_when_it_is_opened_again(tmp_path: Path):
    book = opened(tmp_path / "book")
    assert (book.records(1), book.mechanisms()) == ((), ())
    await book.save(RECORD)
    later = replace(RECORD, stage=Stage.REFUSED, code="expired", reason="too late")
    await book.save(later)
    await book.save(replace(RECORD, mechanism=0, epoch=9))
    again = opened(tmp_path / "book")
    assert again.records(1) == book.records(1) == (later,)
    assert again.mechanisms() == (0, 1)


async def test_records_are_by_ascending_epoch_and_the_oldest_are_forgotten(tmp_path: Path):
    book = opened(tmp_path)
    for epoch in (*range(KEPT_EPOCHS, 0, -1), KEPT_EPOCHS + 1, KEPT_EPOCHS + 2):
        await book.save(replace(RECORD, epoch=epoch))
    kept = list(range(3, KEPT_EPOCHS + 3))
    assert [record.epoch for record in book.records(1)] == kept
    assert [record.epoch for record in opened(tmp_path).records(1)] == kept
    assert files_in(tmp_path) == KEPT_EPOCHS


async def test_what_a_killed_writer_left_aside_is_in_nobodys_way(tmp_path: Path):
    await opened(tmp_path).save(RECORD)
    (tmp_path / "1-3.new").write_bytes(b"half a rec")
    book = opened(tmp_path)
    assert book.records(1) == (RECORD,)
    await book.save(RECORD)


@pytest.mark.parametrize("content", [b"", b"\x92", b"\x00" * 40])
async def test_a_damaged_record_is_named_and_not_taken_for_none(tmp_path: Path, content: bytes):
    await opened(tmp_path).save(RECORD)
    path = tmp_path / "1-3.submission"
    path.write_bytes(content)
    with pytest.raises(SubmissionBookError, match=f"{path}: damaged"):
        opened(tmp_path)


async def test_records_of_another_hotkey_are_refused(tmp_path: Path):
    await opened(tmp_path).save(RECORD)
    with pytest.raises(SubmissionBookError, match="another network or hotkey"):
        opened(tmp_path, BOB.public_key)


async def test_a_record_under_another_name_is_refused(tmp_path: Path):
    await opened(tmp_path).save(RECORD)
    (tmp_path / "1-3.submission").rename(tmp_path / "0-3.submission")
    with pytest.raises(SubmissionBookError, match="it is of mechanism 1, epoch 3"):
        opened(tmp_path)


async def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path: Path):
    book = opened(tmp_path)
    await book.save(RECORD)
    (tmp_path / "1-3.new").mkdir()
    with pytest.raises(ChainError) as caught:
        await book.save(replace(RECORD, stage=Stage.SENDING))
    assert caught.value.code is ChainErrorCode.STATE_UNWRITABLE
    assert "1-3.submission" in str(caught.value)
    assert book.records(1) == opened(tmp_path).records(1) == (RECORD,)


async def test_a_save_that_has_begun_is_finished_when_it_is_cancelled(tmp_path: Path):
    book = opened(tmp_path)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(book.save, RECORD)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert book.records(1) == opened(tmp_path).records(1)


async def test_a_scrape_may_look_while_records_are_saved(tmp_path: Path):
    book = opened(tmp_path)
    for epoch in range(KEPT_EPOCHS):
        await book.save(replace(RECORD, epoch=epoch))

    def look() -> int:
        looks = 0
        while not done.is_set():
            assert book.mechanisms() == (1,)
            assert len(book.records(1)) in (KEPT_EPOCHS, KEPT_EPOCHS + 1)
            looks += 1
        return looks

    done = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        looked = pool.submit(look)
        try:
            for epoch in range(KEPT_EPOCHS, 2 * KEPT_EPOCHS):
                await book.save(replace(RECORD, epoch=epoch))
        finally:
            done.set()
        assert looked.result(DEADLINE_S) > 0


PLACES = [
    "before waiting",
    "after waiting",
    "before sending",
    "after sending",
    "calling",
    "called",
    "before included",
    "after included",
    "before applied",
    "after applied",
    "end",
]


def run_and_kill(folder: Path, start_ms: int, epoch: int, place: str) -> None:
    """Run a process until it is at `place`, and kill it there."""
    command = [sys.executable, "-m", "tests.validator_node.submission_process"]
    process = subprocess.Popen(
        [*command, str(folder), str(start_ms), str(epoch), place],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == place + "\n"  # the process has a deadline of its own
    finally:
        process.kill()
        process.wait(DEADLINE_S)
        process.stdout.close()


@pytest.mark.processes
async def test_a_process_killed_at_each_step_submits_each_epoch_once(tmp_path: Path):
    start_ms = time.time_ns() // 1_000_000 - 1000
    for epoch, place in enumerate(PLACES, start=1):
        await trio.to_thread.run_sync(run_and_kill, tmp_path, start_ms, epoch, place)
    history = await chain_at(tmp_path, start_ms).history()
    assert [one.vector for one in history] == [
        vector_of(epoch) for epoch in range(1, len(PLACES) + 1)
    ]
    records = book_at(tmp_path).records(0)
    assert [record.epoch for record in records] == list(range(1, len(PLACES) + 1))
    assert {record.stage for record in records} == {Stage.APPLIED}
    assert {record.calls for record in records} == {1, 2}  # the call that never left counts, too
