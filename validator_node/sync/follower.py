"""Watching the others' height, and doing something about being behind.

Rules:
1. A validator with links that is a little behind is brought up by its peers' answers to its STATUS
   (consensus.md 10). Only when it is `FAR_BEHIND`, or does not move, or for an observer, which has
   no links, is the log read.
2. No single peer's word decides whom is asked, how long, or what is done: heights count as far as
   they are certified (`claims`), sources change places by what they bring (`sources`), and log and
   snapshots have their turns one after the other while neither gets this node there.
3. The newest certified checkpoint is looked up in the DHT as well. If it lies beyond what every
   connected peer claims, they are behind or keep this node behind: that is reported.
4. A snapshot is loaded while the node goes on; then `ResyncNeeded` ends this run of the node, and
   the next one begins from the prepared database.
5. With `full_log` a snapshot is not loaded while anybody claims to hold the log; but when nothing
   of it came for `FULL_LOG_PATIENCE_S`, the claims are taken for empty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import groupby
from typing import Literal

import structlog
import trio

from consensus.certificate import Verify
from consensus.messages import DecidedSlot
from protocol.records.checkpoint import CheckpointCertificate
from validator_node.consensus_driver import ConsensusDriver
from validator_node.network.network import Network
from validator_node.store import Store
from validator_node.sync.asking import Asker
from validator_node.sync.claims import Claims
from validator_node.sync.download import Downloader
from validator_node.sync.loading import SnapshotLoader
from validator_node.sync.log_reader import Held, LogReader
from validator_node.sync.sets import SetProver
from validator_node.sync.sources import Sources
from validator_node.sync.trust import SetChain, plan

LINKED_EVERY_S = 5.0
OBSERVER_EVERY_S = 1.0
FAR_BEHIND = 64
EXECUTE_S = 60.0
LOOKUP_EVERY_S = 120.0
FULL_LOG_PATIENCE_S = 300.0
LOG_FAILURES = 3
"""Rounds in a row that brought nothing of the log before a snapshot has its turn."""

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
        self._chain = chain
        self._is_linked = is_linked
        self._moved = trio.Event()
        self._height_before = -1
        self._turn: Literal["log", "snapshot"] | None = None
        self._log_failures = 0
        self._log_until = -1.0
        asker = Asker(network)
        self.counts: Counter[str] = asker.counts
        standing = network.standings.of
        sources = Sources(trio.current_time, standing)
        prover = SetProver(asker, chain, sources)
        self._claims = Claims(asker, sources, prover, verify)
        self._reader = LogReader(asker, sources, prover, verify, self._execute)
        self._loader = SnapshotLoader(
            asker, sources, Sources(trio.current_time, standing), prover, downloader
        )
        self.highest = 0
        """The highest slot that a peer claims to have executed, as far as that counts."""
        driver.events.executed.append(lambda *_: self._moved.set())
        driver.events.epoch_began.append(lambda *_: self._moved.set())

    @property
    def download(self) -> Downloader:
        """The snapshot download, for its progress."""
        return self._loader.downloader

    async def run(self) -> None:
        """Look for ever. Raises `ResyncNeeded` when a snapshot waits to be installed."""
        await self._network.wait_connected(1)
        while True:
            await self._look()
            await trio.sleep(LINKED_EVERY_S if self._is_linked() else OBSERVER_EVERY_S)

    async def _look(self) -> None:
        found: list[CheckpointCertificate] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_up, found)
            offers = await self._claims.ask()
            offers = await self._claims.bounded(self._store.height, offers)
        candidates = await self._loader.candidates(self._store.height, offers)
        for candidate in candidates:
            self._claims.certify(candidate.seq)
        self.highest = max([offer.height for offer in offers.values()], default=0)
        if offers:
            self._compare(found)
        height, now = self._store.height, trio.current_time()
        moved, self._height_before = height > self._height_before, height
        keeps_log = self._full_log and (moved or now < self._log_until)
        best = candidates[0].seq if candidates else None
        choice = plan(height, offers, best, turn="log" if keeps_log else self._turn)
        self._turn = None
        if choice == "log" and (moved or self._log_until < 0):
            self._log_until, self._log_failures = now + FULL_LOG_PATIENCE_S, 0
        match choice:
            case "snapshot" if not keeps_log or self._log_until < 0:
                await self._loader.load(candidates)
                self._turn = "log"
            case "log" if not self._is_linked() or not moved or self.highest > height + FAR_BEHIND:
                held = {p: Held(offer.first_held, offer.height) for p, offer in offers.items()}
                if not await self._reader.read(height, held):
                    self._log_failures += 1
                if self._log_failures >= LOG_FAILURES:
                    self._turn = "snapshot"
            case "stuck":
                self.counts["stuck"] += 1
                log.error(
                    "the others are ahead and hold neither the log from here nor a snapshot",
                    height=height,
                    highest=self.highest,
                )

    async def _look_up(self, found: list[CheckpointCertificate]) -> None:
        """Look for the newest checkpoint in the DHT, if it is time to (rule 3)."""
        if not self._network.peers() or trio.current_time() < self._lookup_at:
            return
        self._lookup_at = trio.current_time() + LOOKUP_EVERY_S
        newest = await self._newest()
        if newest is not None:
            found.append(newest)

    def _compare(self, found: list[CheckpointCertificate]) -> None:
        """Report what is certified beyond all that the connected peers claim (rule 3)."""
        for newest in found:
            seq = newest.checkpoint.seq
            self._claims.certify(seq)
            if seq > max(self.highest, self._store.height):
                self.counts["peers_behind"] += 1
                log.warning(
                    "the network has certified more than any connected peer claims",
                    certified=seq,
                    highest=self.highest,
                )

    # --- the log -------------------------------------------------------------------------------

    async def _execute(self, slots: tuple[DecidedSlot, ...]) -> bool:
        """Hand slots to the engine epoch by epoch, with the checkpoint that opens each.

        Return whether all of them are executed; it is given up after `EXECUTE_S`.
        """
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
        return self._store.height >= slots[-1].certificate.header.seq

    async def _wait_for_epoch(self, epoch: int) -> None:
        while self._driver.engine.core.voters.epoch < epoch:
            self._moved = trio.Event()
            await self._moved.wait()

    async def _wait_for_height(self, seq: int) -> None:
        while self._store.height < seq:
            self._moved = trio.Event()
            await self._moved.wait()
