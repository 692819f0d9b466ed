"""One connection: an endpoint, the thread in which the SDK talks to it, and what chain it is of."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from chain.bittensor.endpoints import shown
from chain.bittensor.errors import as_chain_error
from chain.bittensor.reads import Substrate, block_hash_of, finalised_head
from chain.bittensor.settings import Deadlines
from chain.bittensor.thread import ClosedThreadError, HungThreadError, SdkThread, SilentCallError
from chain.errors import ChainError
from chain.errors import ChainErrorCode as Code
from chain.interface import Block
from chain.watchdog import Ended

T = TypeVar("T")


class CallFailedError(Exception):
    """A call that did not answer: `ended` says how, `cause` is what the caller is told."""

    def __init__(self, ended: Ended, cause: ChainError) -> None:
        super().__init__(str(cause))
        self.ended = ended
        self.cause = cause


class Connection:
    """An open connection. `head` is the newest finalised block that it showed first."""

    def __init__(
        self, url: str, thread: SdkThread, substrate: Substrate, genesis_hash: bytes, head: Block
    ) -> None:
        self.url = url
        self.thread = thread
        self.genesis_hash = genesis_hash
        self.head = head
        self._substrate = substrate
        self._calls = 0
        self._retired = False

    async def call(
        self,
        what: str,
        work: Callable[[Substrate], Coroutine[Any, Any, T]],
        deadline_s: float,
        grace_s: float,
    ) -> T:
        """Return what `work` does with the SDK's connection.

        Raises `ChainError` for an answer that is a refusal and `CallFailedError` for none.
        """
        self._calls += 1
        try:
            return await _answered(
                what, self.url, self.thread, lambda: work(self._substrate), deadline_s, grace_s
            )
        finally:
            self._calls -= 1
            if self._retired and self._calls == 0:
                self.close()

    def close(self) -> None:
        """Give the connection and its calls up; nothing waits for the goodbye."""
        self.thread.close(self._substrate.close)

    def retire(self) -> None:
        """Close it when the calls that are on their way have ended; each has its deadline."""
        self._retired = True
        if self._calls == 0:
            self.close()


async def open_connection(url: str, thread: SdkThread, deadlines: Deadlines) -> Connection:
    """Return a connection to `url` in `thread`; raises as `Connection.call` does.

    The thread ends with the connection, or with the attempt to make one.
    """
    begun: list[Any] = []

    async def connect() -> tuple[Substrate, bytes, Block]:
        substrate = _substrate_for(url, begun)
        await substrate.connect()
        genesis_hash = block_hash_of(await substrate.block_hash(0))
        return substrate, genesis_hash, await finalised_head(substrate)

    async def farewell() -> None:
        for one in begun:
            await one.close()

    try:
        substrate, genesis_hash, head = await _answered(
            "connecting", url, thread, connect, deadlines.connect_s, deadlines.grace_s
        )
    except BaseException:
        thread.close(farewell)
        raise
    return Connection(url, thread, substrate, genesis_hash, head)


def _substrate_for(url: str, begun: list[Any]) -> Substrate:
    """Return the SDK's connection to `url`; what it opens is put into `begun`.

    The SDK forgets a socket whose first requests are called off. One endpoint and no archive: which
    endpoint is used is decided here.
    """
    sdk: Any = importlib.import_module("bittensor")

    class Remembering(sdk.RpcSubstrate):  # type: ignore[misc, name-defined, unused-ignore]
        def _interface(self, endpoint: str, fallbacks: list[str]) -> Any:  # noqa: ANN401 - the SDK's
            opened = super()._interface(endpoint, fallbacks)
            begun.append(opened)
            return opened

    return Remembering(url, fallback_endpoints=[], archive_endpoints=[])


async def _answered(
    what: str,
    url: str,
    thread: SdkThread,
    work: Callable[[], Coroutine[Any, Any, T]],
    deadline_s: float,
    grace_s: float,
) -> T:
    where = f"{what} at {shown(url)}"
    late = f"{where} got no answer in {deadline_s} s"
    try:
        return await thread.run(work, deadline_s, grace_s)
    except SilentCallError as error:
        cause = ChainError(Code.DEADLINE, f"{late}; it may still land. Check the endpoint")
        raise CallFailedError(Ended.SILENT, cause) from error
    except HungThreadError as error:
        cause = ChainError(Code.DEADLINE, f"{late} and its thread hangs; it may still land")
        raise CallFailedError(Ended.HUNG, cause) from error
    except ClosedThreadError as error:
        cause = ChainError(
            Code.UNREACHABLE, f"{where}: the connection was given up; it may still land"
        )
        raise CallFailedError(Ended.LOST, cause) from error
    except Exception as error:
        found = error if isinstance(error, ChainError) else as_chain_error(error, what=where)
        before: Exception | None = error
        if url != shown(url):  # it may carry a key, which the library's errors repeat
            found, before = _without_key(found, url), None
        if found.code is Code.UNREACHABLE:
            raise CallFailedError(Ended.LOST, found) from before
        if found is error:
            raise
        raise found from before


def _without_key(error: ChainError, url: str) -> ChainError:
    said = str(error).removeprefix(f"{error.code}: ").replace(url, shown(url))
    return ChainError(error.code, said, wait_blocks=error.wait_blocks)
