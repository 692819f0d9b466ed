"""Fetching blobs: from one holder after the other, going on where the last one stopped.

Rules:
1. Holders are asked in turn (`asking`), and again from the first as long as a round brought
   something.
2. Nothing is returned that does not have the right hash.
3. Who asks for a blob that is being fetched waits for it. If the first asker gives up, the next
   one goes on from the offset reached, with its own holders and deadline.
4. `max_concurrent` blobs are fetched at a time, of at most `max_bytes_in_flight` together; that
   bounds the memory this takes. `max_waiting` calls may wait; a further one fails at once. All this
   is first come, first served: what strangers can make this node want comes by `queue` instead.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import trio

from validator_node.blobs.asking import Ask, Asking, Manner, left_s
from validator_node.blobs.service import BLOB_PROTOCOL, MAX_BLOB_REPLY_BYTES
from validator_node.blobs.transfer import EMPTY_DIGEST, BlobUnavailableError, Transfer
from validator_node.network.network import Network

ROUND_PAUSE_S = 0.5
MAX_CONCURRENT = 16
MAX_BYTES_IN_FLIGHT = 64 * 1024 * 1024
MAX_WAITING = 1024

Holders = Iterable[str] | Callable[[], Iterable[str]]


def over(network: Network) -> Ask:
    """Return the way to ask peers of a network."""

    async def ask(peer_id: str, request: bytes, deadline_s: float) -> bytes:
        return await network.request(
            peer_id,
            BLOB_PROTOCOL,
            request,
            deadline_s=deadline_s,
            max_reply_bytes=MAX_BLOB_REPLY_BYTES,
        )

    return ask


class _Bytes:
    """A number of bytes to share, first come, first served."""

    def __init__(self, total: int) -> None:
        self.total = self.free = total
        self._turn = trio.Lock()
        self._freed = trio.Event()

    async def take(self, count: int) -> None:
        async with self._turn:
            while self.free < count:
                self._freed = trio.Event()
                await self._freed.wait()
            self.free -= count

    def give_back(self, count: int) -> None:
        self.free += count
        self._freed.set()


class _Job:
    """A blob being fetched, and for how many."""

    def __init__(self, transfer: Transfer, cost: int) -> None:
        self.transfer = transfer
        self.lock = trio.Lock()
        self.cost = cost
        self.paid = False
        self.users = 0


class BlobFetcher:
    """Fetches blobs by their hash from peers."""

    def __init__(
        self,
        ask: Ask,
        *,
        on_lie: Callable[[str], None] = lambda _: None,
        max_concurrent: int = MAX_CONCURRENT,
        max_bytes_in_flight: int = MAX_BYTES_IN_FLIGHT,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self.asking = Asking(ask, on_lie)
        self._slots = trio.Semaphore(max_concurrent)
        self._bytes = _Bytes(max_bytes_in_flight)
        self._max_waiting = max_waiting
        self._jobs: dict[tuple[bytes, int | None, int], _Job] = {}
        self.calls = 0
        """Calls of `fetch` under way."""

    @property
    def fetched(self) -> int:
        """Blobs that came."""
        return self.asking.fetched

    @property
    def failed(self) -> int:
        """How often nobody delivered one."""
        return self.asking.failed

    @property
    def fetched_bytes(self) -> int:
        """Bytes of pieces that came, right or wrong."""
        return self.asking.fetched_bytes

    @property
    def lies(self) -> int:
        """How often a holder sent what no honest one sends."""
        return self.asking.lies

    @property
    def bytes_in_flight(self) -> int:
        """Bytes set aside for blobs being fetched by `fetch`."""
        return self._bytes.total - self._bytes.free

    async def fetch(
        self,
        digest: bytes,
        *,
        size: int | None,
        holders: Holders,
        max_bytes: int,
        deadline_s: float,
    ) -> bytes:
        """Return the content whose SHA-256 is `digest`.

        Args:
            digest: 32 bytes.
            size: its length if that is known; a holder that says otherwise is not asked further.
            holders: peer ids in the order to ask them (rule 1), or a function that returns them
                anew for each round.
            max_bytes: the longest content wanted.
            deadline_s: seconds for everything.

        Raises:
            BlobUnavailableError: nobody delivered it, and what each holder said; or it is longer
                than `max_bytes` or than what may be in flight (rule 4), and nobody was asked.
        """
        cost = max_bytes if size is None else size
        most = min(max_bytes, self._bytes.total)
        if cost > most:
            raise BlobUnavailableError(digest, {}, f"{cost} bytes, at most {most} are fetched")
        if digest == EMPTY_DIGEST:
            return b""
        said: dict[str, str] = {}
        async with self._job(digest, size, cost) as job:
            with trio.move_on_after(deadline_s):
                async with job.lock:
                    if not job.paid:
                        await self._bytes.take(job.cost)
                        job.paid = True
                    if job.transfer.content is None:
                        await self._rounds(job.transfer, holders, said)
            content = job.transfer.content
            reached = job.transfer.received
        if content is not None:
            return content
        self.asking.failed += 1
        raise BlobUnavailableError(digest, said, f"nobody delivered it, {reached} bytes came")

    @asynccontextmanager
    async def _job(self, digest: bytes, size: int | None, cost: int) -> AsyncIterator[_Job]:
        """Join or begin the fetching of a blob (rule 3); its last user ends it."""
        if self.calls >= self._max_waiting:
            raise BlobUnavailableError(digest, {}, f"{self.calls} fetches are under way already")
        key = (digest, size, cost)
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = _Job(Transfer(digest, size, cost), cost)
        job.users += 1
        self.calls += 1
        try:
            yield job
        finally:
            self.calls -= 1
            job.users -= 1
            if not job.users:
                del self._jobs[key]
                if job.paid:
                    self._bytes.give_back(job.cost)

    async def _rounds(self, transfer: Transfer, holders: Holders, said: dict[str, str]) -> None:
        """Ask all holders, and again as long as that brought something (rule 1)."""
        whole_s = left_s()
        while True:
            before = transfer.came
            async with self._slots:
                asked = holders() if callable(holders) else holders
                await self.asking.round(transfer, asked, said, Manner(), whole_s)
            if transfer.content is not None or transfer.came == before:
                return
            await trio.sleep(ROUND_PAUSE_S)
