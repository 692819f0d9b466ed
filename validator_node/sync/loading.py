"""Trying one offered snapshot after the other, until one leads to the certified root.

Rules:
1. An attempt is bounded: the first one of a candidate by `Sources.patience_s` without a new chunk
   and `STALLS` times that in all, each later one by twice as much. What came is kept,
   so a large snapshot, or one behind a slow line, gets done in the end, and a liar's costs no more
   time than the honest ones' do.
2. A candidate whose bytes do not lead to the certified root is a lie of those who offered just
   that: they are charged, nobody else is, and it is not tried again. What merely did not come in
   time, or does not fit on this disk, is charged to nobody, but comes after the others.
3. After `TURN_S` of attempts the log has its turn again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

import structlog
import trio

from protocol.errors import ProofError
from storage.errors import SnapshotError, StorageError
from validator_node.blobs import BlobUnavailableError
from validator_node.errors import ResyncNeeded, SnapshotRefusedError, SyncError
from validator_node.sync.asking import Asker
from validator_node.sync.candidates import Candidate, Offered
from validator_node.sync.download import Downloader
from validator_node.sync.records import SyncOffer
from validator_node.sync.sets import SetProver
from validator_node.sync.sources import Sources

SNAPSHOT_LIE_COST: Final = 100.0
"""Half a ban: each lie costs this node a whole download."""
TURN_S: Final = 60.0
PROGRESS_S: Final = 2.0
MAX_REFUSED: Final = 4_096

log = structlog.get_logger(__name__)


class SnapshotLoader:
    """Judges the snapshots that peers offer, and loads one."""

    def __init__(
        self,
        asker: Asker,
        asked: Sources,
        sources: Sources,
        prover: SetProver,
        downloader: Downloader,
    ) -> None:
        """Keep in `sources` whose snapshots failed, which what it brings of the log does not mend.

        `asked` ranks who is asked for offers: whose snapshot failed makes room there as well.
        """
        self._asked = asked
        self._asker = asker
        self._sources = sources
        self._prover = prover
        self._offered = Offered(prover.chain, sources)
        self._refused: OrderedDict[bytes, None] = OrderedDict()
        self.downloader = downloader

    async def candidates(self, height: int, offers: Mapping[str, SyncOffer]) -> list[Candidate]:
        """Return the snapshots beyond `height` that prove themselves, the best first."""
        later = {
            peer_id: [s for s in offer.snapshots if s.certificate.checkpoint.seq > height]
            for peer_id, offer in offers.items()
        }
        wanted = {
            peer_id: max((s.certificate.checkpoint.epoch for s in snapshots), default=0)
            for peer_id, snapshots in later.items()
        }
        await self._prover.prove(wanted)
        found, liars = self._offered.candidates(offers, height, self._refused)
        for peer_id in liars:
            self._sources.failed(peer_id)
            self._asker.charge(peer_id, ProofError("a snapshot that no quorum certified"))
        return found

    async def load(self, found: list[Candidate]) -> None:
        """Try candidates for `TURN_S`. Raises `ResyncNeeded` when one waits to be installed."""
        over_at = trio.current_time() + TURN_S
        for candidate in found:
            await self._attempt(candidate)
            if trio.current_time() >= over_at:
                return

    async def _attempt(self, candidate: Candidate) -> None:
        seq, size = candidate.seq, candidate.offer.size
        log.info("loading a snapshot", seq=seq, bytes=size, peers=candidate.holders)
        counts, began = self._asker.counts, trio.current_time()
        epoch = candidate.offer.certificate.checkpoint.epoch
        stall_s = min(map(self._sources.patience_s, candidate.holders))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._show_progress)
                handovers = self._prover.chain.handovers(epoch)
                await self.downloader.load(candidate, handovers, stall_s=stall_s)
                nursery.cancel_scope.cancel()
        except* (SnapshotRefusedError, SnapshotError) as group:
            counts["snapshots_refused"] += 1
            log.warning("snapshot refused", seq=seq, reason=repr(group.exceptions[0]))
            self._refuse(candidate)
        except* (SyncError, StorageError, OSError) as group:
            # Trouble of this node's own, such as a full disk: nobody is to blame, it tries again.
            # The size is the offerers' word all the same, so others come first.
            counts["snapshots_failed"] += 1
            log.error("snapshot not installed", seq=seq, reason=str(group.exceptions[0]))  # noqa: TRY400
        except* BlobUnavailableError as group:
            counts["snapshots_unavailable"] += 1
            log.warning("snapshot not loaded", seq=seq, reason=str(group.exceptions[0]))
        else:
            elapsed_s = round(trio.current_time() - began, 3)
            log.info("snapshot prepared", seq=seq, bytes=size, seconds=elapsed_s)
            raise ResyncNeeded(seq)
        for peer_id in candidate.holders:
            self._sources.failed(peer_id)
            self._asked.failed(peer_id)

    def _refuse(self, candidate: Candidate) -> None:
        self._refused[candidate.claim] = None
        if len(self._refused) > MAX_REFUSED:
            self._refused.popitem(last=False)
        for peer_id in candidate.holders:
            error = ProofError("a snapshot that does not hold together")
            self._asker.charge(peer_id, error, SNAPSHOT_LIE_COST)

    async def _show_progress(self) -> None:
        while True:
            await trio.sleep(PROGRESS_S)
            progress = self.downloader.progress
            log.info(
                "snapshot",
                phase=progress.phase,
                loaded=progress.bytes_loaded,
                wanted=progress.bytes_wanted,
            )
