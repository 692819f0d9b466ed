"""The SDK's thread: calls, deadlines, and a thread that hangs; with and without the SDK in it."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from chain.bittensor.reads import Substrate
from chain.bittensor.thread import (
    ClosedThreadError,
    HungThreadError,
    SdkThread,
    SilentCallError,
)
from chain.devchain.server import open_devchain
from chain.errors import ChainErrorCode as Code
from chain.watchdog import Health, Limits
from tests.chain.bittensor.support import IMPATIENT, adapter, lost, refusal, settings, shows
from tests.chain.devchain.support import NETUID, run_config, subnet

LONG = 20.0
SHORT = 0.1


@asynccontextmanager
async def thread() -> AsyncIterator[SdkThread]:
    one = SdkThread("chain-sdk-test")
    try:
        with trio.fail_after(LONG):
            yield one
    finally:
        one.close()
        with trio.fail_after(LONG):
            await one.gone()


async def forever() -> None:
    await asyncio.Event().wait()


async def test_results_and_errors_come_back():
    async def add() -> int:
        await asyncio.sleep(0)
        return 2 + 3

    async def fail() -> None:
        raise KeyError("what it raised")

    async with thread() as one:
        assert await one.run(add, LONG, LONG) == 5
        with pytest.raises(KeyError, match="what it raised"):
            await one.run(fail, LONG, LONG)
        assert one.is_alive


class Panic(BaseException):
    """As the SDK's Rust parts raise: no `Exception`."""


async def test_a_panic_of_the_sdk_is_the_calls_failure_only():
    async def panic() -> None:
        await asyncio.sleep(0)
        raise Panic("index out of bounds")

    async def add() -> int:
        return 2 + 3

    async with thread() as one:
        with pytest.raises(RuntimeError, match="the SDK broke: Panic: index out of bounds") as told:
            await one.run(panic, LONG, LONG)
        assert isinstance(told.value.__cause__, Panic)
        assert await one.run(add, LONG, LONG) == 5


async def test_a_call_that_waits_is_called_off_at_its_deadline():
    async with thread() as one:
        with pytest.raises(SilentCallError):
            await one.run(forever, SHORT, LONG)


async def test_a_caller_that_is_cancelled_calls_its_work_off():
    called_off = threading.Event()

    async def wait() -> None:
        try:
            await forever()
        finally:
            called_off.set()

    async with thread() as one:
        with trio.move_on_after(SHORT):
            await one.run(wait, LONG, LONG)
        assert await trio.to_thread.run_sync(called_off.wait, LONG)


async def test_a_thread_that_does_not_react_hangs_and_ends_when_it_can():
    released = threading.Event()

    async def hang() -> None:
        released.wait(LONG)

    async def wait() -> None:
        with pytest.raises(ClosedThreadError):
            await one.run(forever, LONG, LONG)

    async with thread() as one, trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        with pytest.raises(HungThreadError, match="chain-sdk-test"):
            await one.run(hang, SHORT, SHORT)
        one.close()
        await trio.testing.wait_all_tasks_blocked()
        assert not nursery.child_tasks
        assert one.is_alive
        released.set()
        await one.gone()


async def test_closing_ends_calls_says_goodbye_and_refuses_new_ones():
    said: list[str] = []

    async def farewell() -> None:
        said.append("goodbye")
        raise ConnectionError("nobody is there")

    async with thread() as one, trio.open_nursery() as nursery:

        async def call() -> None:
            with pytest.raises(ClosedThreadError):
                await one.run(forever, LONG, LONG)
            said.append("call ended")

        nursery.start_soon(call)
        await trio.testing.wait_all_tasks_blocked(0.05)
        one.close(farewell)
        one.close(farewell)
        await one.gone()
        with pytest.raises(ClosedThreadError):
            await one.run(forever, LONG, LONG)
    assert sorted(said) == ["call ended", "goodbye"]


async def test_jobs_of_the_loop_run_in_daemon_threads():
    async def ask() -> bool:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, lambda: threading.current_thread().daemon)

    async def fail() -> None:
        await asyncio.get_running_loop().run_in_executor(None, int, "no number")

    async with thread() as one:
        assert await one.run(ask, LONG, LONG)
        with pytest.raises(ValueError, match="no number"):
            await one.run(fail, LONG, LONG)


async def test_a_hung_thread_is_replaced_and_counted_until_it_ends(tmp_path: Path):
    released = threading.Event()

    async def hang(_substrate: Substrate) -> None:
        released.wait(LONG)

    async with (
        open_devchain(subnet(), run_config()) as chain,
        adapter(tmp_path, chain, settings=settings(IMPATIENT)) as node,
    ):
        await shows(node, lambda one: one.health is Health.HEALTHY)
        error = await refusal(node._keeper.call("hanging", hang, SHORT))
        assert error.code is Code.DEADLINE
        status = await shows(node, lambda one: one.hung_threads == 1)
        assert status.counts["hung"] == 1
        assert "its thread hangs" in status.last_reason
        status = await shows(node, lambda one: one.health is Health.HEALTHY)
        assert status.threads == 2
        assert await node.weights_of(1) == ()
        released.set()
        await shows(node, lambda one: (one.hung_threads, one.threads) == (0, 1))


async def test_too_many_hung_threads_end_the_process(tmp_path: Path):
    released = threading.Event()

    async def hang(_substrate: Substrate) -> None:
        released.wait(LONG)

    limits = Limits(most_hung_threads=0)
    async with open_devchain(subnet(), run_config()) as chain:

        async def follow() -> None:
            options = {"settings": settings(IMPATIENT, limits=limits)}
            async with adapter(tmp_path, chain, **options) as node:
                await shows(node, lambda one: one.health is Health.HEALTHY)
                await refusal(node._keeper.call("hanging", hang, SHORT))
                assert node.status().health is Health.FAILED
                await trio.sleep_forever()

        with pytest.raises(BaseExceptionGroup) as caught:
            await follow()
        released.set()
    assert "hung threads of the SDK: 1, more than 0" in str(lost(caught.value))


HANGING = """
import sys, threading, trio
from chain.bittensor import Deadlines, Settings, open_bittensor
from chain.errors import ChainError
from chain.watchdog import ChainLostError, Limits
from pathlib import Path

async def main():
    settings = Settings(
        deadlines=Deadlines(connect_s=60, read_s=60, write_s=60, grace_s=0.2),
        limits=Limits(most_hung_threads=0), poll_s=0.1,
    )
    cache = Path(sys.argv[2])
    chain = open_bittensor([sys.argv[1]], int(sys.argv[3]), cache_dir=cache, settings=settings)
    async with chain as chain:
        await chain.head()
        async def hang(substrate):
            threading.Event().wait()
        try:
            await chain._keeper.call("hanging", hang, 0.2)
        except ChainError as error:
            assert error.code == "deadline"
        await trio.sleep_forever()

try:
    trio.run(main)
except* ChainLostError as group:
    print(group.exceptions[0], file=sys.stderr)
    sys.exit(7)
"""


async def test_a_thread_that_hangs_for_ever_does_not_keep_the_process_and_nothing_is_written(
    tmp_path: Path,
):
    """In a process of its own: the SDK writes to the cache folder only, and the end is real."""
    home, cache = tmp_path / "home", tmp_path / "cache"
    home.mkdir()
    async with open_devchain(subnet(), run_config()) as chain:
        command = [sys.executable, "-c", HANGING, chain.url, str(cache), str(NETUID)]
        with trio.fail_after(60):
            ended = await trio.run_process(
                command,
                check=False,
                capture_stderr=True,
                cwd=Path(__file__).parents[3],
                env={"HOME": str(home), "PATH": ""},
            )
    text = ended.stderr.decode()
    assert ended.returncode == 7, text
    assert "the chain is lost" in text
    assert "hung threads of the SDK: 1, more than 0" in text
    assert list(home.iterdir()) == []
    assert [one.suffix for one in cache.iterdir()] == [".bin"]
