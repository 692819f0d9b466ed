"""Asking the holders of a blob for its pieces, one holder after the other.

Rules:
1. Holders are asked in the order given, but who failed the last time last (`turns`). A holder that
   does not answer a request within `CHUNK_S`, that after `GRACE_S` has brought less than
   `MIN_BYTES_PER_S` on average, or whose turn is over, is left for the next one. One that says
   `NOT_NOW` is asked again after `NOT_NOW_S`, within the same limits.
2. Nothing counts that does not have the right hash. Who sent wrong bytes, or what no honest node
   sends, is reported (`on_lie`) and not asked again for that blob.
3. In `bring` a holder shows early that it brings something: its first piece is a short one, and
   must come within `answer_s`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import trio

from protocol.codec import decode, encode
from protocol.errors import ProtocolError
from protocol.records.blob import MAX_CHUNK_BYTES, NOT_NOW, BlobReply, BlobRequest
from validator_node.blobs.service import MAX_BLOB_REPLY_BYTES
from validator_node.blobs.transfer import Transfer
from validator_node.blobs.turns import WASTED_S, Failures, turn_s
from validator_node.network.errors import NetworkError

CHUNK_S = 10.0
GRACE_S = 10.0
MIN_BYTES_PER_S = 65_536.0
GOOD_BYTES_PER_S = 524_288.0
"""A holder that was left at this pace has not failed."""
NOT_NOW_S = 0.5
FIRST_BYTES = 65_536
"""Of the first piece in `bring`: the least pace takes a second for it."""

Ask = Callable[[str, bytes, float], Awaitable[bytes]]
"""`ask(peer id, request, deadline in seconds) -> reply`; raises `NetworkError`."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How holders are asked for their pieces."""

    first_bytes: int = MAX_CHUNK_BYTES
    """The length of the blob's first piece."""
    answer_s: float = CHUNK_S
    """How long a holder may take for its first piece."""
    on_piece: Callable[[], None] = lambda: None


def left_s() -> float:
    """Return the seconds until the time of whoever asks is up."""
    return trio.current_effective_deadline() - trio.current_time()


class _Nonsense(Exception):  # noqa: N818 - a verdict on a reply, never leaves this module
    """A reply that no honest node sends."""


class Asking:
    """What is asked of holders, and what is known of them."""

    def __init__(self, ask: Ask, on_lie: Callable[[str], None]) -> None:
        self._ask = ask
        self._on_lie = on_lie
        self._failures = Failures()
        self.fetched = self.failed = self.lies = 0
        self.fetched_bytes = 0
        """Bytes of pieces that came, right or wrong."""

    async def bring(
        self,
        transfer: Transfer,
        holders: Iterable[str],
        *,
        answer_s: float,
        span_s: float,
        on_piece: Callable[[], None],
    ) -> dict[str, str]:
        """Ask each holder once for what is missing of `transfer` (rule 3); return what each said.

        Args:
            transfer: what has come so far; its `content` is set if this brought the blob.
            holders: peer ids in the order to ask them.
            answer_s: seconds for the first piece of each.
            span_s: seconds of which each holder has its share.
            on_piece: called after each piece.
        """
        said: dict[str, str] = {}
        manner = Manner(FIRST_BYTES, min(answer_s, CHUNK_S), on_piece)
        with trio.move_on_after(span_s):
            await self.round(transfer, holders, said, manner, span_s)
        if transfer.content is None:
            self.failed += 1
        return said

    async def round(
        self,
        transfer: Transfer,
        holders: Iterable[str],
        said: dict[str, str],
        manner: Manner,
        whole_s: float,
    ) -> None:
        """Ask each holder once, until the blob is here; `said` takes what each said.

        `whole_s` is the time of which each holder has its share.
        """
        order = self._failures.order(transfer.digest, holders)
        for number, peer_id in enumerate(order, start=1):
            if peer_id not in transfer.liars:
                others = sum(other not in transfer.liars for other in order[number:])
                said[peer_id] = "was being asked when the time was up"
                turn = turn_s(whole_s, left_s(), others)
                said[peer_id] = await self._turn(transfer, peer_id, turn, manner)
            if transfer.content is not None:
                self.fetched += 1
                return

    async def _turn(self, transfer: Transfer, peer_id: str, seconds: float, manner: Manner) -> str:
        """Get what one holder brings in its turn; return why it brought no more."""
        started, before = trio.current_time(), transfer.came
        try:
            with trio.move_on_after(seconds):
                return await self._from(transfer, peer_id, manner)
            return f"too slow: it had {seconds:.0f} s while others were left"
        finally:  # the caller's time may have been up as well
            elapsed = trio.current_time() - started
            is_late = elapsed >= WASTED_S and transfer.came - before < GOOD_BYTES_PER_S * elapsed
            if transfer.content is not None:
                self._failures.note(transfer.digest, peer_id, failed=False)
            elif is_late or peer_id in transfer.liars:
                self._failures.note(transfer.digest, peer_id, failed=True)

    async def _from(self, transfer: Transfer, peer_id: str, manner: Manner) -> str:
        """Get what one holder brings; return why it brought no more."""
        started, brought, begun = trio.current_time(), 0, False
        while transfer.content is None:
            elapsed = trio.current_time() - started
            grace_s = GRACE_S if brought else min(GRACE_S, manner.answer_s)
            if elapsed > grace_s and brought < MIN_BYTES_PER_S * elapsed:
                return f"too slow: {brought} bytes in {elapsed:.0f} s"
            offset = transfer.received
            try:
                reply = await self._piece(transfer, peer_id, manner, is_first=not brought)
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
            manner.on_piece()
            if transfer.is_complete:
                found = transfer.finish()
                self._report(transfer, found)
                if peer_id in found:
                    return "sent other content"
                begun = False  # if the content is wrong all the same, it sends it alone
        return "delivered it"

    async def _piece(
        self, transfer: Transfer, peer_id: str, manner: Manner, *, is_first: bool
    ) -> BlobReply:
        """Ask for the next piece; `_Nonsense` is a reply that no honest node sends."""
        offset = transfer.received
        length = MAX_CHUNK_BYTES if offset else manner.first_bytes
        if transfer.size is not None:
            length = min(length, transfer.size - offset)
        request = BlobRequest(digest=transfer.digest, offset=offset, length=length)
        deadline_s = manner.answer_s if is_first else CHUNK_S
        data = await self._ask(peer_id, encode(request), deadline_s)
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
