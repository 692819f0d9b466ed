"""Watching the others' height, and doing something about being behind.

Rules:
1. A validator with links that is a little behind is brought up by its peers' answers to its STATUS
   (consensus.md 10). Only when it is `FAR_BEHIND`, or does not move, or for an observer, which has
   no links, is the log read.
2. Every slot read is checked against its proven set before the engine sees it, so that a lie is
   charged to the peer that told it.
3. The newest certified checkpoint is looked up in the DHT as well. If it lies beyond what every
   connected peer claims, they are behind or keep this node behind: that is reported.
4. A snapshot is loaded while the node goes on; then `ResyncNeeded` ends this run of the node, and
   the next one begins from the prepared database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import groupby
from random import SystemRandom

import structlog
import trio

from consensus.certificate import Verify
from consensus.messages import DecidedSlot
from protocol.codec import decode, encode
from protocol.errors import ProofError, ProtocolError
from protocol.records.checkpoint import CheckpointCertificate
from storage.errors import SnapshotError, StorageError
from validator_node.blobs import BlobUnavailableError
from validator_node.consensus_driver import ConsensusDriver
from validator_node.errors import ResyncNeeded, SnapshotRefusedError, SyncError
from validator_node.network.errors import NetworkError
from validator_node.network.network import Network
from validator_node.store import Store
from validator_node.sync.download import Downloader
from validator_node.sync.records import (
    DEADLINE_S,
    HANDOVER_PROTOCOL,
    LOG_PROTOCOL,
    MAX_HANDOVER_BYTES,
    MAX_LOG_REPLY_BYTES,
    MAX_OFFER_BYTES,
    SYNC_PROTOCOL,
    HandoverReply,
    HandoverRequest,
    LogReply,
    LogRequest,
    SyncOffer,
)
from validator_node.sync.trust import Candidate, SetChain, candidates, check_slot, plan

LINKED_EVERY_S = 5.0
OBSERVER_EVERY_S = 1.0
FAR_BEHIND = 64
SNAPSHOT_LIE_COST = 100.0
"""Half a ban: each lie costs this node a whole download."""
ASK_S = 5.0
MAX_ASKED = 8
EXECUTE_S = 60.0
PROGRESS_S = 2.0
LOOKUP_EVERY_S = 120.0

log = structlog.get_logger(__name__)


Newest = Callable[[], Awaitable[CheckpointCertificate | None]]


async def _unknown() -> CheckpointCertificate | None:
    return None


class Follower:
    """Keeps one node at the others' height."""

    def __init__(
        self,
        store: Store,
        driver: ConsensusDriver,
        network: Network,
        downloader: Downloader,
        chain: SetChain,
        verify: Verify,
        *,
        is_linked: Callable[[], bool],
        full_log: bool = False,
        newest: Newest = _unknown,
    ) -> None:
        """`is_linked` tells whether consensus links bring this node up.

        With `full_log` a snapshot is never loaded while anybody holds the log. `newest` looks up
        the newest checkpoint of the network, proven.
        """
        self._full_log = full_log
        self._newest = newest
        self._lookup_at = trio.current_time()
        self._store = store
        self._driver = driver
        self._network = network
        self._downloader = downloader
        self._chain = chain
        self._verify = verify
        self._is_linked = is_linked
        self._moved = trio.Event()
        self._height_before = -1
        self._refused_manifests: set[bytes] = set()
        self.highest = 0
        """The highest slot that a peer claims to have executed."""
        self.counts: Counter[str] = Counter()
        driver.events.executed.append(lambda *_: self._moved.set())
        driver.events.epoch_began.append(lambda *_: self._moved.set())

    @property
    def download(self) -> Downloader:
        """The snapshot download, for its progress."""
        return self._downloader

    async def run(self) -> None:
        """Look for ever. Raises `ResyncNeeded` when a snapshot waits to be installed."""
        await self._network.wait_connected(1)
        while True:
            await self._look()
            await trio.sleep(LINKED_EVERY_S if self._is_linked() else OBSERVER_EVERY_S)

    async def _look(self) -> None:
        offers = await self._offers()
        self.highest = max([offer.height for offer in offers.values()], default=0)
        await self._look_up(bool(offers))
        best = await self._best(offers) if self.highest > self._store.height else None
        height = self._store.height
        moved, self._height_before = height > self._height_before, height
        match plan(height, offers, best, full_log=self._full_log):
            case "snapshot" if best is not None:
                await self._load(best)
            case "log" if not self._is_linked() or not moved or self.highest > height + FAR_BEHIND:
                await self._read_log(offers)
            case "stuck":
                self.counts["stuck"] += 1
                log.error(
                    "the others are ahead and hold neither the log from here nor a snapshot",
                    height=height,
                    highest=self.highest,
                )

    async def _look_up(self, anybody: bool) -> None:
        """Compare what the peers claim with the checkpoint in the DHT (rule 3)."""
        if not anybody or trio.current_time() < self._lookup_at:
            return
        self._lookup_at = trio.current_time() + LOOKUP_EVERY_S
        newest = await self._newest()
        if newest is None or newest.checkpoint.seq <= max(self.highest, self._store.height):
            return
        self.counts["peers_behind"] += 1
        log.warning(
            "the network has certified more than any connected peer claims",
            certified=newest.checkpoint.seq,
            highest=self.highest,
        )

    async def _offers(self) -> dict[str, SyncOffer]:
        offers: dict[str, SyncOffer] = {}

        async def ask(peer_id: str) -> None:
            try:
                data = await self._request(peer_id, SYNC_PROTOCOL, b"", MAX_OFFER_BYTES, ASK_S)
                offers[peer_id] = decode(SyncOffer, data, limit_bytes=MAX_OFFER_BYTES)
            except (NetworkError, ProtocolError) as error:
                log.debug("no sync offer", peer=peer_id, reason=str(error))

        peers = list(self._network.peers())
        async with trio.open_nursery() as nursery:
            # Drawn anew each time: peer ids can be chosen, so no order may favour some of them.
            for peer_id in SystemRandom().sample(peers, min(MAX_ASKED, len(peers))):
                nursery.start_soon(ask, peer_id)
        return offers

    async def _request(
        self, peer_id: str, protocol: str, data: bytes, limit: int, deadline_s: float = DEADLINE_S
    ) -> bytes:
        return await self._network.request(
            peer_id, protocol, data, deadline_s=deadline_s, max_reply_bytes=limit
        )

    def _charge(self, peer_id: str, error: ProtocolError, cost: float = 1.0) -> None:
        self.counts["lies"] += 1
        log.warning("sync: a peer's answer does not prove itself", peer=peer_id, reason=str(error))
        self._network.charge(peer_id, error.reason, cost)

    # --- sets and snapshots --------------------------------------------------------------------

    async def _best(self, offers: dict[str, SyncOffer]) -> Candidate | None:
        wanted = [s.certificate.checkpoint.epoch for o in offers.values() for s in o.snapshots]
        await self._prove_sets(max(wanted, default=0), list(offers))
        found, liars = candidates(offers, self._chain, frozenset(self._refused_manifests))
        for peer_id in liars:
            self._charge(peer_id, ProofError("a snapshot that no quorum certified"))
        return found[0] if found else None

    async def _prove_sets(self, epoch: int, peers: list[str]) -> None:
        """Extend the chain of sets up to `epoch` as far as the peers' answers prove it."""
        for peer_id in peers:
            while self._chain.voters(epoch) is None:
                before = self._chain.next_epoch
                try:
                    request = encode(HandoverRequest(first_epoch=before))
                    data = await self._request(
                        peer_id, HANDOVER_PROTOCOL, request, MAX_HANDOVER_BYTES
                    )
                    reply = decode(HandoverReply, data, limit_bytes=MAX_HANDOVER_BYTES)
                    self._chain.extend(reply.handovers)
                except ProtocolError as error:
                    self._charge(peer_id, error)
                    break
                except NetworkError as error:
                    log.debug("no hand-overs", peer=peer_id, reason=str(error))
                    break
                if self._chain.next_epoch == before:
                    break  # it knows no more

    async def _load(self, best: Candidate) -> None:
        epoch = best.offer.certificate.checkpoint.epoch
        log.info("loading a snapshot", seq=best.seq, bytes=best.offer.size, peers=best.holders)
        began = trio.current_time()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._show_progress)
                await self._downloader.load(best, self._chain.handovers(epoch))
                nursery.cancel_scope.cancel()
        except* (SnapshotRefusedError, SnapshotError) as group:
            # Its bytes are not what its certificate names: another manifest, or the log.
            self._refused_manifests.add(best.offer.manifest)
            self.counts["snapshots_refused"] += 1
            log.warning("snapshot refused", seq=best.seq, reason=repr(group.exceptions[0]))
            for peer_id in best.holders:
                error = ProofError("a snapshot that does not hold together")
                self._charge(peer_id, error, SNAPSHOT_LIE_COST)
        except* (SyncError, StorageError, OSError) as group:
            # Trouble of this node's own, such as a full disk: nobody is to blame, it tries again.
            self.counts["snapshots_failed"] += 1
            log.error("snapshot not installed", seq=best.seq, reason=str(group.exceptions[0]))  # noqa: TRY400
        except* BlobUnavailableError as group:
            self.counts["snapshots_unavailable"] += 1
            log.warning("snapshot not loaded", seq=best.seq, reason=str(group.exceptions[0]))
        else:
            elapsed_s = round(trio.current_time() - began, 3)
            log.info("snapshot prepared", seq=best.seq, bytes=best.offer.size, seconds=elapsed_s)
            raise ResyncNeeded(best.seq)

    async def _show_progress(self) -> None:
        while True:
            await trio.sleep(PROGRESS_S)
            progress = self._downloader.progress
            log.info(
                "snapshot",
                phase=progress.phase,
                loaded=progress.bytes_loaded,
                wanted=progress.bytes_wanted,
            )

    # --- the log -------------------------------------------------------------------------------

    async def _read_log(self, offers: dict[str, SyncOffer]) -> None:
        """Read the log from one peer after the other until this node is as high as they claim."""
        for peer_id, offer in sorted(offers.items(), key=lambda item: -item[1].height):
            try:
                while self._store.height < offer.height:
                    if not await self._read_some(peer_id):
                        break
            except ProtocolError as error:
                self._charge(peer_id, error)
            except NetworkError as error:
                log.info("log not read", peer=peer_id, reason=str(error))
            if self._store.height >= self.highest:
                return

    async def _read_some(self, peer_id: str) -> bool:
        """Read, check and execute one reply; return whether it moved this node."""
        first = self._store.height + 1
        data = await self._request(
            peer_id, LOG_PROTOCOL, encode(LogRequest(first=first)), MAX_LOG_REPLY_BYTES
        )
        self.counts["log_bytes"] += len(data)
        slots = decode(LogReply, data, limit_bytes=MAX_LOG_REPLY_BYTES).slots
        for seq, slot in enumerate(slots, first):
            epoch = slot.certificate.header.epoch
            await self._prove_sets(epoch, [peer_id])
            voters = self._chain.voters(epoch)
            if voters is None:
                raise ProofError(f"slot {seq} is of epoch {epoch}, whose set is not proven")
            check_slot(slot, seq, voters, self._verify)
        if not slots:
            return False
        await self._execute(slots)
        return self._store.height >= first

    async def _execute(self, slots: tuple[DecidedSlot, ...]) -> None:
        """Hand slots to the engine epoch by epoch, with the checkpoint that opens each."""
        engine = self._driver.engine
        with trio.move_on_after(EXECUTE_S):
            for epoch, group in groupby(slots, lambda slot: slot.certificate.header.epoch):
                for handover in self._chain.handovers(epoch):
                    if handover.checkpoint.epoch == engine.core.voters.epoch:
                        await self._driver.learn(handover)
                        await self._wait_for_epoch(epoch)
                last = 0
                for slot in group:
                    await self._driver.learn(slot)
                    last = slot.certificate.header.seq
                    self.counts["slots_read"] += 1
                await self._wait_for_height(last)

    async def _wait_for_epoch(self, epoch: int) -> None:
        while self._driver.engine.core.voters.epoch < epoch:
            self._moved = trio.Event()
            await self._moved.wait()

    async def _wait_for_height(self, seq: int) -> None:
        while self._store.height < seq:
            self._moved = trio.Event()
            await self._moved.wait()
