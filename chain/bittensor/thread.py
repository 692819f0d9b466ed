"""One daemon thread with one asyncio loop, where the SDK of one connection lives.

Rules:
1. The SDK is never touched outside this thread. Its calls are coroutines; trio waits for their
   ends, and calls them off at their deadlines.
2. Two ways to be late: a call that can be called off was `SilentCallError`; if the loop does not
   even do that within the grace, the thread hangs (`HungThreadError`) and is abandoned.
3. Nothing here can keep the process alive: the thread, and those that its loop uses for name
   resolution and signing, are daemons.
4. What breaks inside the SDK (its Rust parts panic with an error that is no `Exception`) is the
   call's failure and not the node's: it comes out as `RuntimeError`.
5. Closing is asked for and not waited for without bound. A thread that hung and comes back finds
   the request, says goodbye and ends.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Generic, TypeVar

import trio

T = TypeVar("T")

FAREWELL_SECONDS = 12.0
"""How long a goodbye may take inside the thread; websockets waits 10 s for a silent peer's."""


_LAST_TURNS = 4
"""Turns of the loop before it is closed: sockets that were aborted are closed in the next ones."""


class SilentCallError(Exception):
    """A call was not answered before its deadline and was called off."""


class HungThreadError(Exception):
    """A call was not answered before its deadline, and its thread does not react."""


class ClosedThreadError(Exception):
    """The thread was closed before the call had ended, or before it began."""


class _DaemonExecutor(ThreadPoolExecutor):
    """An executor whose jobs run in daemon threads of their own.

    A pool's own threads are waited for when the interpreter ends, however long they hang.
    """

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:  # noqa: ANN401 - the base's
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # it is handed on to who waits
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=work, daemon=True, name="chain-sdk-job").start()
        return future


class _Call(Generic[T]):
    """One call, seen from both sides: trio waits for `ended`, all else happens in the loop."""

    def __init__(
        self, work: Callable[[], Coroutine[Any, Any, T]], token: trio.lowlevel.TrioToken
    ) -> None:
        self.ended = trio.Event()
        self.task: asyncio.Task[T] | None = None
        self._work = work
        self._token = token

    def begin(self, running: set[asyncio.Task[Any]]) -> None:
        self.task = asyncio.get_running_loop().create_task(self._work())
        running.add(self.task)
        self.task.add_done_callback(running.discard)
        self.task.add_done_callback(self._tell)

    def refuse(self) -> None:
        with suppress(trio.RunFinishedError):  # nobody is left to be told
            self._token.run_sync_soon(self.ended.set)

    def call_off(self) -> None:
        if self.task is not None:
            self.task.cancel()

    def _tell(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not log what the caller is told
        self.refuse()


def _result_of(task: asyncio.Task[T]) -> T:
    error = task.exception()
    ours = (Exception, KeyboardInterrupt, SystemExit, asyncio.CancelledError)
    if error is None or isinstance(error, ours):
        return task.result()
    raise RuntimeError(f"the SDK broke: {type(error).__name__}: {error}") from error


class SdkThread:
    """A thread for one connection; made inside trio, begun at once. See the module's rules."""

    def __init__(self, name: str) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(_DaemonExecutor(max_workers=1))
        self._farewell: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._closing = False
        self._running: set[asyncio.Task[Any]] = set()
        self._waiting: set[_Call[Any]] = set()
        self._gone = trio.Event()
        self._thread = threading.Thread(target=self._main, daemon=True, name=name)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread has not ended yet; may be asked from any thread."""
        return self._thread.is_alive()

    async def run(
        self, work: Callable[[], Coroutine[Any, Any, T]], deadline_s: float, grace_s: float
    ) -> T:
        """Return what `work` returns, or raise what it raises.

        Raises `RuntimeError` if the SDK broke, `SilentCallError` or `HungThreadError` at the
        deadline, `ClosedThreadError` if the thread was closed. Cancelled from outside, it calls the
        work off and does not wait for it.
        """
        call = _Call(work, self._token)
        self._post(lambda: self._begin(call))
        self._waiting.add(call)
        try:
            with trio.move_on_after(deadline_s):
                await call.ended.wait()
            if not call.ended.is_set():
                self._post(call.call_off)
                with trio.move_on_after(grace_s):
                    await call.ended.wait()
                if not call.ended.is_set():
                    raise HungThreadError(f"thread {self._thread.name}")
        finally:
            self._waiting.discard(call)
            if not call.ended.is_set():
                with suppress(ClosedThreadError):
                    self._post(call.call_off)
        if call.task is not None and call.task.done() and not call.task.cancelled():
            return _result_of(call.task)
        if self._closing:
            raise ClosedThreadError(f"thread {self._thread.name} was closed meanwhile")
        raise SilentCallError(f"thread {self._thread.name}")

    def close(self, farewell: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        """Ask the thread to end: calls are called off, then `farewell` runs, bounded.

        Who waits for a call is told at once, also if the thread hangs.
        """
        if self._closing:
            return
        self._closing = True
        self._farewell = farewell
        for call in self._waiting:
            call.ended.set()
        with suppress(ClosedThreadError):
            self._post(self._loop.stop)

    async def gone(self) -> None:
        """Return when the thread has ended."""
        await self._gone.wait()

    def _begin(self, call: _Call[Any]) -> None:
        if self._closing:
            call.refuse()
        else:
            call.begin(self._running)

    def _post(self, what: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError as error:  # the loop is closed, which is how asyncio says it
            raise ClosedThreadError(f"thread {self._thread.name} has ended") from error

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._end())
        finally:
            self._loop.close()
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._gone.set)

    async def _end(self) -> None:
        for call in self._running:
            call.cancel()
        if self._farewell is not None:
            # A goodbye that fails changes nothing: the connection is given up either way.
            with suppress(Exception):
                await asyncio.wait_for(self._farewell(), FAREWELL_SECONDS)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await asyncio.get_running_loop().shutdown_asyncgens()
        for _ in range(_LAST_TURNS):
            await asyncio.sleep(0)
