"""What peers claim of themselves, and how much of it counts.

Rules:
1. A claim of height proves nothing. It counts up to `REACH` slots beyond what is certified: what
   this node has executed, what a certificate showed, or the tip that the peer showed when it was
   asked for it. So nobody can be ahead of the network by more than that.
2. A peer that says nothing, or cannot show the tip that it claims, is left alone for a while.
3. Members and configured peers are asked each time, strangers as far as there is room.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog
import trio
from msgspec.structs import replace

from consensus.certificate import Verify
from protocol.codec import encode
from protocol.errors import ProtocolError
from validator_node.network.errors import NetworkError
from validator_node.sync.asking import Asker
from validator_node.sync.records import (
    LOG_PROTOCOL,
    MAX_LOG_REPLY_BYTES,
    MAX_LOG_SLOTS,
    MAX_OFFER_BYTES,
    SYNC_PROTOCOL,
    LogReply,
    LogRequest,
    SyncOffer,
)
from validator_node.sync.sets import PROVE_S, SetProver
from validator_node.sync.sources import Sources
from validator_node.sync.trust import check_slot

MAX_ASKED = 16
REACH = MAX_LOG_SLOTS

log = structlog.get_logger(__name__)


class Claims:
    """Asks peers what they could help with, and bounds what they say."""

    def __init__(self, asker: Asker, sources: Sources, prover: SetProver, verify: Verify) -> None:
        self._asker = asker
        self._sources = sources
        self._prover = prover
        self._verify = verify
        self.certified = 0
        """The highest slot that is known for certain to be decided."""

    def certify(self, seq: int) -> None:
        """Note that a slot is certainly decided."""
        self.certified = max(self.certified, seq)

    async def ask(self) -> dict[str, SyncOffer]:
        """Return what peers offer; they are asked together, each for as long as it is worth."""
        offers: dict[str, SyncOffer] = {}

        async def ask(peer_id: str) -> None:
            try:
                offers[peer_id], _ = await self._asker.ask(
                    peer_id,
                    SYNC_PROTOCOL,
                    b"",
                    SyncOffer,
                    limit_bytes=MAX_OFFER_BYTES,
                    deadline_s=self._sources.patience_s(peer_id),
                )
            except (NetworkError, ProtocolError) as error:
                log.debug("no sync offer", peer=peer_id, reason=str(error))
                self._sources.failed(peer_id)

        async with trio.open_nursery() as nursery:
            for peer_id in self._sources.chosen(self._asker.network.peers(), MAX_ASKED):
                nursery.start_soon(ask, peer_id)
        return offers

    async def bounded(self, height: int, offers: Mapping[str, SyncOffer]) -> dict[str, SyncOffer]:
        """Return the offers with the heights that count (rule 1); `height` is this node's own."""
        self.certify(height)
        bold = {
            peer_id: offer
            for peer_id, offer in offers.items()
            if offer.first_held <= offer.height and offer.height > self.certified + REACH
        }
        shown: set[str] = set()

        async def ask(peer_id: str, seq: int) -> None:
            if await self._shows_tip(peer_id, seq):
                shown.add(peer_id)

        with trio.move_on_after(PROVE_S):
            async with trio.open_nursery() as nursery:
                for peer_id, offer in bold.items():
                    nursery.start_soon(ask, peer_id, offer.height)
        for peer_id in bold.keys() - shown:
            self._sources.failed(peer_id)
        most = self.certified + REACH
        return {
            peer_id: replace(offer, height=min(offer.height, most))
            for peer_id, offer in offers.items()
        }

    async def _shows_tip(self, peer_id: str, seq: int) -> bool:
        """Return whether a peer has the decided slot that it claims to have executed last."""
        try:
            reply, _ = await self._asker.ask(
                peer_id,
                LOG_PROTOCOL,
                encode(LogRequest(first=seq)),
                LogReply,
                limit_bytes=MAX_LOG_REPLY_BYTES,
                deadline_s=self._sources.patience_s(peer_id),
            )
            if not reply.slots:
                return False
            epoch = reply.slots[0].certificate.header.epoch
            await self._prover.ask(peer_id, epoch)
            voters = self._prover.chain.voters(epoch)
            if voters is None:
                return False  # no lie: it may trust a later checkpoint than this node does
            check_slot(reply.slots[0], seq, voters, self._verify)
        except ProtocolError as error:
            self._asker.charge(peer_id, error)
        except NetworkError as error:
            log.info("tip not shown", peer=peer_id, seq=seq, reason=str(error))
        else:
            self.certify(seq)
            return True
        return False
