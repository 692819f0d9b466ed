"""Proving the validator sets of later epochs by the hand-overs that peers send."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
import trio

from protocol.codec import encode
from protocol.errors import ProtocolError
from validator_node.network.errors import NetworkError
from validator_node.sync.asking import Asker
from validator_node.sync.records import (
    HANDOVER_PROTOCOL,
    MAX_HANDOVER_BYTES,
    HandoverReply,
    HandoverRequest,
)
from validator_node.sync.sources import Sources
from validator_node.sync.trust import SetChain

PROVE_S = 15.0

log = structlog.get_logger(__name__)


class SetProver:
    """Extends one chain of sets, by the answers of several peers at the same time."""

    def __init__(self, asker: Asker, chain: SetChain, sources: Sources) -> None:
        self._asker = asker
        self._sources = sources
        self.chain = chain

    async def ask(self, peer_id: str, epoch: int) -> None:
        """Extend the chain up to `epoch` as far as one peer's answers prove it.

        Raises `NetworkError` and `ProtocolError`; what was proven before is kept.
        """
        while self.chain.voters(epoch) is None:
            before = self.chain.next_epoch
            reply, _ = await self._asker.ask(
                peer_id,
                HANDOVER_PROTOCOL,
                encode(HandoverRequest(first_epoch=before)),
                HandoverReply,
                limit_bytes=MAX_HANDOVER_BYTES,
                deadline_s=self._sources.patience_s(peer_id),
            )
            # Others may have brought the first of them meanwhile, and the peer cannot know.
            known = self.chain.next_epoch
            self.chain.extend(h for h in reply.handovers if h.checkpoint.epoch >= known)
            if self.chain.next_epoch == before:
                return  # it knows no more

    async def prove(self, wanted: Mapping[str, int]) -> None:
        """Extend the chain up to the epochs that peers speak of, asking all of them together.

        Takes at most `PROVE_S`. Who cannot prove the epoch that it speaks of itself has failed.
        """
        goal = max(wanted.values(), default=0)
        if self.chain.voters(goal) is not None:
            return
        liars: set[str] = set()

        async def ask(peer_id: str) -> None:
            try:
                await self.ask(peer_id, goal)
            except ProtocolError as error:
                liars.add(peer_id)
                self._asker.charge(peer_id, error)
            except NetworkError as error:
                log.debug("no hand-overs", peer=peer_id, reason=str(error))

        with trio.move_on_after(PROVE_S):
            async with trio.open_nursery() as nursery:
                for peer_id in wanted:
                    nursery.start_soon(ask, peer_id)
        for peer_id, epoch in wanted.items():
            if peer_id in liars or self.chain.is_beyond(epoch):
                self._sources.failed(peer_id)
