"""The files under several processes, kill -9 and damage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from chain.embedded import EmbeddedChain
from chain.errors import ChainError, ChainErrorCode
from chain.hotkey_files import HISTORY_LIMIT, HotkeyFiles, Submission
from tests.chain.support import ALICE, BOB, VALIDATORS, VECTOR, Clock, Subnet, genesis

ROOT = Path(__file__).resolve().parents[2]
GENESIS = bytes(32)
KEY = ALICE.public_key


@contextmanager
def writers(directory: Path, seeds: list[int], count: int) -> Iterator[list[subprocess.Popen]]:
    """Start one real process a seed; all begin to write together."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.chain.writer", str(directory), str(seed), str(count)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in seeds
    ]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.stdin.close()
            process.stdout.close()
            process.wait()


def chain_at(directory: Path, block: int) -> EmbeddedChain:
    clock = Clock()
    clock.to_block(block)
    return EmbeddedChain(genesis(weights_rate_limit=0), directory, clock)


@pytest.mark.trio
async def test_four_processes_write_to_one_directory_at_once(tmp_path: Path):
    count = 20
    with writers(tmp_path, [1, 2, 3, 4], count) as processes:
        for process in processes:
            assert process.wait(timeout=60) == 0
    chain = chain_at(tmp_path, count)
    history = await chain.history()
    for uid, key in enumerate(VALIDATORS):
        blocks = [one.block for one in history if one.hotkey == key.public_key.hex()]
        assert blocks == list(range(1, count + 1))
        assert await chain.weights_of(uid) == ((0, 65535), (1, count + 1))


@pytest.mark.trio
async def test_four_processes_with_one_hotkey_lose_no_call(tmp_path: Path):
    count = 10
    with writers(tmp_path, [1, 1, 1, 1], count) as processes:
        for process in processes:
            assert process.wait(timeout=60) == 0
    history = await chain_at(tmp_path, count).history()
    assert sorted(one.block for one in history) == sorted(list(range(1, count + 1)) * 4)


@pytest.mark.trio
async def test_kill_9_at_any_time_leaves_a_readable_file_with_all_that_was_reported(
    tmp_path: Path,
):
    reported = 0
    for round_number in range(6):
        directory = tmp_path / str(round_number)
        with writers(directory, [1], 0) as [process]:
            for _ in range(1 + 3 * round_number):
                reported = int(process.stdout.readline())
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            reported = max([reported, *(int(line) for line in process.stdout if line.strip())])
        chain = chain_at(directory, reported + 1)
        history = await chain.history()
        # One more than reported may have landed before the line was printed.
        assert reported <= len(history) <= reported + 1
        assert [one.block for one in history] == list(range(1, len(history) + 1))
        # The dead writer's lock is free and what it left aside is in nobody's way.
        (directory / f"{KEY.hex()}.new").write_bytes(b"half a fi")
        await chain.set_weights(ALICE, VECTOR)
        assert await chain.weights_of(0) == VECTOR


def submission(block: int, mechanism: int = 0) -> Submission:
    return Submission(
        epoch=0,
        block=block,
        hotkey=KEY.hex(),
        mechanism=mechanism,
        version_key=0,
        vector=VECTOR,
    )


def test_a_history_is_bounded_and_the_stored_weights_survive_it(tmp_path: Path):
    state = HotkeyFiles(tmp_path, GENESIS).read(KEY).including(submission(1, mechanism=3))
    for block in range(2, HISTORY_LIMIT + 10):
        state = state.including(submission(block))
    assert len(state.history) == HISTORY_LIMIT
    assert state.nonce == HISTORY_LIMIT + 9
    assert state.last_update(3) == 1
    assert state.last_update(0) == HISTORY_LIMIT + 9


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"genesis": 1}', b"\xff\xfe"])
def test_a_damaged_file_is_named_and_never_taken_for_an_empty_one(tmp_path: Path, content: bytes):
    path = tmp_path / f"{KEY.hex()}.json"
    path.write_bytes(content)
    files = HotkeyFiles(tmp_path, GENESIS)
    with pytest.raises(ChainError, match=f"state_unreadable: {path}"):
        files.read(KEY)


def test_a_directory_of_another_chain_is_refused(tmp_path: Path):
    files = HotkeyFiles(tmp_path, GENESIS)
    with files.locked(KEY) as state:
        files.replace(KEY, state.including(submission(1)))
    with pytest.raises(ChainError, match="give each chain a directory of its own"):
        HotkeyFiles(tmp_path, b"x" * 32).read(KEY)


def test_a_directory_that_cannot_be_written_is_an_error_with_its_path(tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    files = HotkeyFiles(blocked / "chain", GENESIS)
    with pytest.raises(ChainError) as caught, files.locked(KEY):
        pytest.fail("the lock was given")
    assert caught.value.code is ChainErrorCode.STATE_UNWRITABLE


@pytest.mark.trio
async def test_a_held_lock_stops_a_writer_of_the_same_hotkey_only(subnet: Subnet):
    chain = subnet.chain()
    with HotkeyFiles(subnet.directory, chain.genesis.digest).locked(KEY):
        await chain.set_weights(BOB, VECTOR)
        assert await chain.weights_of(0) == ()
        with trio.move_on_after(0.05) as scope:
            await chain.set_weights(ALICE, VECTOR)
        assert scope.cancelled_caught
    # The abandoned call may land now that the lock is free, as on a live chain.
    with trio.fail_after(10):
        while await chain.weights_of(0) == ():
            await trio.lowlevel.checkpoint()
