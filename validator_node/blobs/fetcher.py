"""Fetching blobs: from one holder after the other, going on where the last one stopped.

Rules:
1. Holders are asked in the order given, but who failed the last time last (`turns`), and asked
   again from the first as long as a round brought something. A holder that does not answer a
   request within `CHUNK_S`, that after `GRACE_S` has brought less than `MIN_BYTES_PER_S` on
   average, or whose turn is over, is left for the next one. One that says `NOT_NOW` is asked again
   after `NOT_NOW_S`, within the same limits.
2. Nothing is returned that does not have the right hash. Who sent wrong bytes, or what no honest
   node sends, is reported (`on_lie`) and not asked again for that blob.
3. Who asks for a blob that is being fetched waits for it. If the first asker gives up, the next
   one goes on from the offset reached, with its own holders and deadline.
4. `max_concurrent` blobs are fetched at a time, of at most `max_bytes_in_flight` together; that
   bounds the memory this takes. `max_waiting` calls may wait; a further one fails at once.
5. A blob of unknown size may be as long as any holder says, so bytes are set aside for the longest
   that is wanted. If that is more than `SMALL_BYTES`, they come from `max_unsized_bytes`, apart
   from rule 4's: however long such blobs take, no other one waits for their bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import trio

from protocol.codec import decode, encode
from protocol.errors import ProtocolError
from protocol.records.blob import MAX_CHUNK_BYTES, NOT_NOW, BlobReply, BlobRequest
from validator_node.blobs.service import BLOB_PROTOCOL, MAX_BLOB_REPLY_BYTES
from validator_node.blobs.transfer import EMPTY_DIGEST, BlobUnavailableError, Transfer
from validator_node.blobs.turns import WASTED_S, Failures, turn_s
from validator_node.network.errors import NetworkError
from validator_node.network.network import Network

CHUNK_S = 10.0
GRACE_S = 10.0
MIN_BYTES_PER_S = 65_536.0
NOT_NOW_S = 0.5
ROUND_PAUSE_S = 0.5
MAX_CONCURRENT = 16
MAX_BYTES_IN_FLIGHT = 64 * 1024 * 1024
MAX_UNSIZED_BYTES = 64 * 1024 * 1024
SMALL_BYTES = 4 * 1024 * 1024
"""A manifest of a snapshot may be that long; parts of challenges may be longer."""
MAX_WAITING = 1024

Ask = Callable[[str, bytes, float], Awaitable[bytes]]
"""`ask(peer id, request, deadline in seconds) -> reply`; raises `NetworkError`."""
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

    def __init__(self, transfer: Transfer, cost: int, budget: _Bytes) -> None:
        self.transfer = transfer
        self.lock = trio.Lock()
        self.cost = cost
        self.budget = budget
        self.paid = False
        self.users = 0


def _left_s() -> float:
    """Return the seconds until the time of whoever asks is up."""
    return trio.current_effective_deadline() - trio.current_time()


class _Nonsense(Exception):  # noqa: N818 - a verdict on a reply, never leaves this module
    """A reply that no honest node sends."""


class BlobFetcher:
    """Fetches blobs by their hash from peers."""

    def __init__(
        self,
        ask: Ask,
        *,
        on_lie: Callable[[str], None] = lambda _: None,
        max_concurrent: int = MAX_CONCURRENT,
        max_bytes_in_flight: int = MAX_BYTES_IN_FLIGHT,
        max_unsized_bytes: int = MAX_UNSIZED_BYTES,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._ask = ask
        self._on_lie = on_lie
        self._slots = trio.Semaphore(max_concurrent)
        self._bytes = _Bytes(max_bytes_in_flight)
        self._unsized_bytes = _Bytes(max_unsized_bytes)
        self._failures = Failures()
        self._max_waiting = max_waiting
        self._jobs: dict[tuple[bytes, int | None, int], _Job] = {}
        self.calls = 0
        """Calls of `fetch` under way."""
        self.fetched = self.failed = self.lies = 0
        self.fetched_bytes = 0
        """Bytes of pieces that came, right or wrong."""

    @property
    def bytes_in_flight(self) -> int:
        """Bytes set aside for blobs being fetched."""
        return sum(budget.total - budget.free for budget in (self._bytes, self._unsized_bytes))

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
                than `max_bytes` or than what may be in flight (rules 4 and 5), and nobody was
                asked.
        """
        cost = max_bytes if size is None else size
        is_open = size is None and cost > SMALL_BYTES
        budget = self._unsized_bytes if is_open else self._bytes
        most = min(max_bytes, budget.total)
        if cost > most:
            raise BlobUnavailableError(digest, {}, f"{cost} bytes, at most {most} are fetched")
        if digest == EMPTY_DIGEST:
            return b""
        said: dict[str, str] = {}
        async with self._job(digest, size, cost, budget) as job:
            with trio.move_on_after(deadline_s):
                async with job.lock:
                    if not job.paid:
                        await job.budget.take(job.cost)
                        job.paid = True
                    if job.transfer.content is None:
                        await self._rounds(job.transfer, holders, said)
            content = job.transfer.content
            reached = job.transfer.received
        if content is not None:
            return content
        self.failed += 1
        raise BlobUnavailableError(digest, said, f"nobody delivered it, {reached} bytes came")

    @asynccontextmanager
    async def _job(
        self, digest: bytes, size: int | None, cost: int, budget: _Bytes
    ) -> AsyncIterator[_Job]:
        """Join or begin the fetching of a blob (rule 3); its last user ends it."""
        if self.calls >= self._max_waiting:
            raise BlobUnavailableError(digest, {}, f"{self.calls} fetches are under way already")
        key = (digest, size, cost)
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = _Job(Transfer(digest, size, cost), cost, budget)
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
                    job.budget.give_back(job.cost)

    async def _rounds(self, transfer: Transfer, holders: Holders, said: dict[str, str]) -> None:
        """Ask all holders, and again as long as that brought something (rule 1)."""
        whole_s = _left_s()
        while True:
            before = transfer.came
            async with self._slots:
                asked = holders() if callable(holders) else holders
                order = self._failures.order(transfer.digest, asked)
                for number, peer_id in enumerate(order, start=1):
                    if peer_id not in transfer.liars:
                        others = sum(other not in transfer.liars for other in order[number:])
                        said[peer_id] = "was being asked when the time was up"
                        turn = turn_s(whole_s, _left_s(), others)
                        said[peer_id] = await self._turn(transfer, peer_id, turn)
                    if transfer.content is not None:
                        self.fetched += 1
                        return
            if transfer.came == before:
                return
            await trio.sleep(ROUND_PAUSE_S)

    async def _turn(self, transfer: Transfer, peer_id: str, seconds: float) -> str:
        """Get what one holder brings in its turn; return why it brought no more."""
        started = trio.current_time()
        try:
            with trio.move_on_after(seconds):
                return await self._from(transfer, peer_id)
            return f"too slow: it had {seconds:.0f} s while others were left"
        finally:  # the caller's time may have been up as well
            is_late = trio.current_time() - started >= WASTED_S
            if transfer.content is not None:
                self._failures.note(transfer.digest, peer_id, failed=False)
            elif is_late or peer_id in transfer.liars:
                self._failures.note(transfer.digest, peer_id, failed=True)

    async def _from(self, transfer: Transfer, peer_id: str) -> str:
        """Get what one holder brings; return why it brought no more."""
        started, brought, begun = trio.current_time(), 0, False
        while transfer.content is None:
            elapsed = trio.current_time() - started
            if elapsed > GRACE_S and brought < MIN_BYTES_PER_S * elapsed:
                return f"too slow: {brought} bytes in {elapsed:.0f} s"
            offset = transfer.received
            try:
                reply = await self._piece(transfer, peer_id)
            except NetworkError as error:
                return str(error)
            except _Nonsense as nonsense:
                self._report(transfer, {peer_id})
                return str(nonsense)
            if reply.size == NOT_NOW:
                await trio.sleep(NOT_NOW_S)
                continue
            why = transfer.why_not(reply.size)
            if why is not None:
                return why
            if begun and reply.size != transfer.size:
                self._report(transfer, {peer_id})
                return f"said {transfer.size} bytes, then {reply.size}"
            if not begun:
                transfer.begin(peer_id, reply.size)
                begun = True
                if transfer.received != offset:
                    continue  # everything began again: this piece is from further on
            transfer.append(reply.data)
            brought += len(reply.data)
            self.fetched_bytes += len(reply.data)
            if transfer.is_complete:
                found = transfer.finish()
                self._report(transfer, found)
                if peer_id in found:
                    return "sent other content"
                begun = False  # if the content is wrong all the same, it sends it alone
        return "delivered it"

    async def _piece(self, transfer: Transfer, peer_id: str) -> BlobReply:
        """Ask for the next piece; `_Nonsense` is a reply that no honest node sends."""
        offset = transfer.received
        length = MAX_CHUNK_BYTES
        if transfer.size is not None:
            length = min(length, transfer.size - offset)
        request = BlobRequest(digest=transfer.digest, offset=offset, length=length)
        data = await self._ask(peer_id, encode(request), CHUNK_S)
        try:
            reply = decode(BlobReply, data, limit_bytes=MAX_BLOB_REPLY_BYTES)
        except ProtocolError as error:
            raise _Nonsense(f"sent no reply: {error}") from error
        most = 0 if reply.size == NOT_NOW else min(length, max(0, reply.size - offset))
        if len(reply.data) > most or (most and not reply.data):
            raise _Nonsense(f"sent {len(reply.data)} of {most} bytes at {offset}")
        return reply

    def _report(self, transfer: Transfer, peer_ids: set[str]) -> None:
        for peer_id in peer_ids - transfer.liars:
            transfer.liars.add(peer_id)
            self.lies += 1
            self._on_lie(peer_id)
