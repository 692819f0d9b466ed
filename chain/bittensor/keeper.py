"""Keeps one connection: makes it, watches it, leaves it for another one, and at last gives up.

Rules:
1. A connection is made when a call needs one, by one task at a time. An endpoint of another
   genesis is refused by name and rests like one that is down.
2. What the watchdog says about a call's end is done at once, and only to the connection that the
   call was made on: of ten calls that fall silent together, the first one costs it.
3. The head is read every few seconds, so that a silent or stale endpoint is found without callers.
   While another than the first endpoint is in use, those before it are tried again; one that
   answers with a recent head takes over, the old connection is then closed.
4. A connection that is given up is not waited for; its thread says goodbye on its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import trio

from chain.bittensor.connection import CallFailedError, Connection, open_connection
from chain.bittensor.endpoints import Endpoints, shown
from chain.bittensor.reads import Substrate, finalised_head
from chain.bittensor.settings import ChainStatus, Settings
from chain.bittensor.thread import SdkThread
from chain.errors import ChainError
from chain.errors import ChainErrorCode as Code
from chain.watchdog import Action, ChainLostError, Ended, Watchdog

T = TypeVar("T")

MOST_CALLS = 16
"""Calls on their way at once; more wait for their turn."""

_GOODBYE_SECONDS = 2.0


class Keeper:
    """The connection of one adapter. `genesis_hash` None means that of the first connection."""

    def __init__(
        self, endpoints: Endpoints, genesis_hash: bytes | None, settings: Settings
    ) -> None:
        self.endpoints = endpoints
        self.genesis_hash = genesis_hash
        self.settings = settings
        self.watchdog = Watchdog(settings.limits, time.monotonic())
        self._returns = 0
        self._wrong_chains = 0
        self._connection: Connection | None = None
        self._connecting = trio.Lock()
        self._room = trio.Semaphore(MOST_CALLS)
        self._threads: set[SdkThread] = set()
        self._hung: set[SdkThread] = set()
        self._given_up = trio.Event()

    async def call(
        self,
        what: str,
        work: Callable[[Substrate], Coroutine[Any, Any, T]],
        deadline_s: float,
        *,
        blame_elsewhere: Callable[[], ChainError | None] = lambda: None,
    ) -> T:
        """Return what `work` does with the SDK; raises `ChainError`, at the latest at the deadline.

        The making of a connection, if there is none, has its own deadlines. `blame_elsewhere`
        may name another reason for a deadline that passed; then the connection is kept.
        """
        async with self._room:
            connection = await self._connected()
            number = self.watchdog.call_begun(what, time.monotonic())
            ended: Ended | None = None
            try:
                result = await connection.call(
                    what, work, deadline_s, self.settings.deadlines.grace_s
                )
                ended = Ended.ANSWERED
            except ChainError:
                ended = Ended.ANSWERED
                raise
            except CallFailedError as error:
                elsewhere = blame_elsewhere() if error.ended is Ended.SILENT else None
                ended = error.ended if elsewhere is None else Ended.ANSWERED
                raise (elsewhere or error.cause) from error
            finally:
                self._ended(connection, number, ended)
            return result

    async def watch(self) -> None:
        """Watch until cancelled; raises `ChainLostError` when the watchdog gives up."""
        async with trio.open_nursery() as nursery:
            # A task of its own: connecting may take longer than the patience lasts.
            nursery.start_soon(self._poll)
            while not self._given_up.is_set():
                self._forget_ended_threads()
                self._do(self.watchdog.tick(time.monotonic()))
                with trio.move_on_after(self.settings.poll_s):
                    await self._given_up.wait()
            nursery.cancel_scope.cancel()
        raise ChainLostError(self._last_words())

    async def close(self) -> None:
        """Ask every thread to end, and wait a moment for those that react."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        with trio.CancelScope(shield=True), trio.move_on_after(_GOODBYE_SECONDS):
            for thread in tuple(self._threads):
                await thread.gone()

    def status(self) -> ChainStatus:
        """Return what metrics and the status page show; may be called from any thread."""
        connection, watchdog = self._connection, self.watchdog
        own = {"returns": self._returns, "wrong_chain": self._wrong_chains}
        return ChainStatus(
            health=watchdog.health,
            endpoint="" if connection is None else shown(connection.url),
            head=watchdog.head,
            head_age_s=watchdog.age_s(time.monotonic()),
            threads=sum(thread.is_alive for thread in tuple(self._threads)),
            hung_threads=watchdog.hung_threads,
            in_flight=watchdog.in_flight,
            last_reason=watchdog.last_reason,
            counts={**watchdog.counts, **own},
        )

    async def _poll(self) -> None:
        read_s = self.settings.deadlines.read_s
        while True:
            try:
                head = await self.call("reading the head", finalised_head, read_s)
            except ChainError:
                pass  # the watchdog and the endpoints have heard of it
            else:
                self._saw(head.number)
            await self._return_to_a_better_one()
            await trio.sleep(self.settings.poll_s)

    def _saw(self, number: int) -> None:
        known = self.watchdog.head
        self.watchdog.head_seen(number, time.monotonic())
        if self._connection is not None and self.watchdog.head > known:
            self.endpoints.worked(self._connection.url)

    def _ended(self, connection: Connection, number: int, ended: Ended | None) -> None:
        """Tell the watchdog of a call's end and do what it says."""
        current = connection is self._connection
        if ended is None or (not current and ended in (Ended.LOST, Ended.SILENT)):
            # Called off from outside, or the connection is given up already (rule 2).
            self.watchdog.call_forgotten(number)
            return
        if ended is Ended.HUNG:
            self._hung.add(connection.thread)
        action = self.watchdog.call_ended(number, ended, time.monotonic())
        if current or action is Action.EXIT:
            self._do(action)

    def _do(self, action: Action) -> None:
        connection = self._connection
        if action is Action.EXIT:
            self._given_up.set()
        if action is Action.NONE or connection is None:
            return
        self._connection = None
        connection.close()
        if action is Action.FAIL_OVER:
            reason = self.watchdog.last_reason
            self.endpoints.failed(connection.url, time.monotonic(), Code.UNREACHABLE, reason)

    async def _connected(self) -> Connection:
        if self._connection is not None:
            return self._connection
        async with self._connecting:
            tried: list[str] = []
            while self._connection is None:
                url = self.endpoints.choose(time.monotonic(), tried)
                if url is None or self._given_up.is_set():
                    raise self._nowhere()
                tried.append(url)
                found = await self._tried(url)
                if found is not None:
                    self._use(found)
            return self._connection

    def _use(self, connection: Connection) -> None:
        self._connection = connection
        self.watchdog.connected(time.monotonic())
        self._saw(connection.head.number)

    async def _tried(self, url: str) -> Connection | None:
        """Return a connection to `url`, None if there is none to be had; the reason is kept."""
        try:
            thread = SdkThread(f"chain-sdk {shown(url)}")
        except (OSError, RuntimeError) as error:  # out of descriptors, or of threads
            cause = ChainError(Code.UNREACHABLE, f"no thread for {shown(url)}: {error}")
            self._refused(url, cause, Ended.LOST)
            return None
        self._threads.add(thread)
        try:
            connection = await open_connection(url, thread, self.settings.deadlines)
            self._require_our_chain(connection)
        except CallFailedError as error:
            if error.ended is Ended.HUNG:
                self._hung.add(thread)
            self._refused(url, error.cause, error.ended)
            return None
        except ChainError as error:
            self._refused(url, error, Ended.LOST)
            return None
        return connection

    def _refused(self, url: str, cause: ChainError, ended: Ended) -> None:
        self.endpoints.failed(url, time.monotonic(), cause.code, str(cause))
        if self.watchdog.connect_failed(ended, str(cause)) is Action.EXIT:
            self._given_up.set()

    def _require_our_chain(self, connection: Connection) -> None:
        if self.genesis_hash is None:
            self.genesis_hash = connection.genesis_hash
        if connection.genesis_hash == self.genesis_hash:
            return
        self._wrong_chains += 1
        connection.close()
        raise ChainError(
            Code.WRONG_CHAIN,
            f"{shown(connection.url)} is of the chain with genesis "
            f"{connection.genesis_hash.hex()}, this node follows {self.genesis_hash.hex()}; "
            "correct the endpoint",
        )

    async def _return_to_a_better_one(self) -> None:
        """Go over to an endpoint that stands before the one in use, if it has a recent head."""
        connection = self._connection
        if connection is None:
            return
        url = self.endpoints.better_than(connection.url, time.monotonic())
        if url is None:
            return
        async with self._connecting:
            if self._connection is not connection:
                return
            better = await self._tried(url)
            if better is None:
                return
            behind = self.watchdog.head - better.head.number
            if behind > self.settings.return_lag_blocks:
                better.close()
                stale = f"it is {behind} blocks behind the newest head"
                self._refused(url, ChainError(Code.UNREACHABLE, stale), Ended.LOST)
                return
            before, self._connection = self._connection, None
            if before is not None:
                before.retire()
            self._returns += 1
            self._use(better)

    def _forget_ended_threads(self) -> None:
        ended = {thread for thread in self._threads if not thread.is_alive}
        for _ in ended & self._hung:
            self.watchdog.thread_ended()
        self._threads -= ended
        self._hung -= ended

    def _nowhere(self) -> ChainError:
        every = self.endpoints.common_code()
        code = Code.WRONG_CHAIN if every is Code.WRONG_CHAIN else Code.UNREACHABLE
        wait_s = self.endpoints.wait_s(time.monotonic())
        return ChainError(
            code,
            f"no chain endpoint can be used, the next one is tried in {wait_s:.1f} s. "
            f"{self.endpoints.describe()}",
        )

    def _last_words(self) -> str:
        return (
            f"the chain is lost: {self.watchdog.last_reason}. {self.endpoints.describe()}. The "
            "process ends so that its supervisor starts it afresh; check the chain's endpoints, "
            "this machine's network, and that the chain itself makes blocks"
        )
