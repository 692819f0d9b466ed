"""What validators send, on its way to the driver.

Rules:
1. A validator may have `PEER_QUEUE` messages waiting; until they are taken, its next frame is not
   read, which holds its writer back.
2. Votes do not wait behind statements. A statement may hold hundreds of signatures, each of which
   costs more than a vote's: they are verified here, beside the driver, `SLICE` at a time with a
   pause between, the validators in turn. The driver finds them verified (`batch_check.Memo`).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

import trio

from consensus.validators import Voters
from protocol.errors import ProtocolError
from protocol.records.statement import Statement
from validator_node.batch_check import Checker
from validator_node.driver_events import FromPeer, Turn
from validator_node.outbox import LinkMessage
from validator_node.statements import StatementPool

PEER_QUEUE = 512
"""Messages of one validator that may wait for the driver."""
SLICE = 16
"""Signatures verified in a row: 3 ms on the machine on which the limits were measured."""


class Inbound:
    """Hands over to `send` what validators send."""

    def __init__(
        self,
        send: trio.MemorySendChannel[Turn],
        checker: Checker,
        pool: StatementPool,
        voters: Callable[[], Voters],
    ) -> None:
        self._send = send
        self._checker = checker
        self._pool = pool
        self._voters = voters
        self._slots: dict[int, trio.Semaphore] = {}
        self._statements: OrderedDict[int, deque[FromPeer]] = OrderedDict()
        """By validator; whose turn it is comes first."""
        self._wake = trio.Event()

    async def put(self, peer: int, messages: Iterable[LinkMessage]) -> None:
        """Queue what a validator sent; waits only while `PEER_QUEUE` items of it are waiting."""
        limiter = self._slots.setdefault(peer, trio.Semaphore(PEER_QUEUE))
        key = self._voters().key(peer)
        for message in messages:
            item = FromPeer(peer, key, message)
            try:
                limiter.acquire_nowait()
            except trio.WouldBlock:
                await limiter.acquire()
            if isinstance(message, Statement):
                self._statements.setdefault(peer, deque()).append(item)
                self._wake.set()
            else:
                await self._pass_on(item)

    async def _pass_on(self, item: FromPeer) -> None:
        try:
            self._send.send_nowait(item)
        except trio.WouldBlock:
            await self._send.send(item)

    def release(self, peer: int) -> None:
        """Note that the driver has taken one item of a validator."""
        self._slots[peer].release()

    async def run(self) -> None:
        """Verify statements and pass them on, for ever."""
        while True:
            while not self._statements:
                self._wake = trio.Event()
                await self._wake.wait()
            peer, waiting = self._statements.popitem(last=False)
            item = waiting.popleft()
            if waiting:
                self._statements[peer] = waiting
            if isinstance(item.message, Statement):
                await self._verify(item.message)
            await self._pass_on(item)

    async def _verify(self, statement: Statement) -> None:
        """Verify what the driver would; what fails it finds out again, and says who is to blame."""
        header, voters = statement.header, self._voters()
        if header.epoch != voters.epoch or header.signer >= len(voters):
            return
        if not self._pool.wants(header.signer, header.counter):
            return
        try:
            for verified, _ in enumerate(self._checker.steps(statement), 1):
                if verified % SLICE == 0:
                    await trio.lowlevel.checkpoint()
        except ProtocolError:
            return
