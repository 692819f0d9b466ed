"""What this node puts into the DHT, and when.

Rules:
1. Put are: the own node record (at the start and every hour), the newest stable checkpoint, and
   evidence and the set of a new epoch when they appear. Results, submissions and bodies are not:
   at 80 ms of CPU a put they would cost more than agreeing on them, and every full node answers
   them as derived records.
2. All validators learn of a stable checkpoint at once, and one put is enough: a validator waits
   `STAGGER_S` for each place between it and the one whose turn it is, and lets it be if somebody
   else's put of it, or of a newer one, has come in the meantime. It puts one at most every
   `CHECKPOINT_S`. Observers put none.
3. Puts go one at a time, `PUT_EVERY_S` apart at least. At most `MAX_WAITING` wait; of one key only
   the newest value. What is too much is dropped and counted.
4. A put that nobody took is tried again after `RETRY_S`, `TRIES` times in all. Own records are put
   again before they expire at their holders (`RecordStore.due`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog
import trio

from consensus.messages import Evidence
from protocol.codec import decode, digest_of, encode
from protocol.records.checkpoint import CheckpointCertificate
from protocol.records.record_key import NEWEST, DhtKind, RecordKey
from protocol.records.validators import SignedNodeRecord
from storage.record_store import RecordStore
from validator_node.network.dht import Dht
from validator_node.network.errors import NetworkError
from validator_node.records.errors import RecordError

NODE_RECORD_S: Final = 3_600.0
CHECKPOINT_S: Final = 60.0
STAGGER_S: Final = 5.0
PUT_EVERY_S: Final = 5.0
PUT_S: Final = 20.0
RETRY_S: Final = 60.0
TRIES: Final = 3
UPKEEP_S: Final = 60.0
MAX_WAITING: Final = 256

log = structlog.get_logger(__name__)


@dataclass
class _Waiting:
    value: bytes
    tries: int = 0


class RecordService:
    """Puts this node's records, one after the other.

    `counts` has, by word: `put`, `replicas` (peers seen to hold them), `retried`, `given_up`,
    `refused` (older than what is held, or no longer valid), `dropped` (too many waiting),
    `left_to_others` (checkpoints that somebody else put).
    """

    def __init__(
        self,
        dht: Dht,
        kept: RecordStore,
        network_id: bytes,
        *,
        own_record: Callable[[], SignedNodeRecord],
        place: Callable[[], tuple[int, int] | None],
    ) -> None:
        """Make the service.

        Args:
            dht: where records are put.
            kept: the store behind it, for renewal and sweeping.
            network_id: part of each key.
            own_record: makes this node's record as it is now.
            place: (own index, number of validators) of the current set; None for an observer.
        """
        self._dht = dht
        self._kept = kept
        self._network_id = network_id
        self._own_record = own_record
        self._place = place
        self._waiting: dict[str, _Waiting] = {}
        self._more = trio.Event()
        self._stable: CheckpointCertificate | None = None
        self._new_stable = trio.Event()
        self._seen_seq = -1
        self._retrying = 0
        self._checkpoint_key = self._key(DhtKind.CHECKPOINT, NEWEST)
        self.counts: Counter[str] = Counter()
        dht.on_put(self._on_put)

    def __len__(self) -> int:
        return len(self._waiting)

    def on_stable(self, certificate: CheckpointCertificate) -> None:
        """Take a stable checkpoint; at an epoch's edge it is the next set's record as well."""
        if certificate.checkpoint.next_set is not None:
            epoch = certificate.checkpoint.epoch + 1
            self.offer(self._key(DhtKind.VALIDATORS, epoch), encode(certificate))
        if self._stable is None or certificate.checkpoint.seq > self._stable.checkpoint.seq:
            self._stable = certificate
            self._new_stable.set()

    def on_evidence(self, evidence: Evidence) -> None:
        """Take proof that a validator contradicted itself."""
        self.offer(self._key(DhtKind.EVIDENCE, digest_of(evidence)), encode(evidence))

    def offer(self, key: str, value: bytes) -> None:
        """Put a record when its turn comes, in the place of what waits under the same key."""
        if key not in self._waiting and len(self._waiting) >= MAX_WAITING:
            self.counts["dropped"] += 1
            return
        self._waiting[key] = _Waiting(value)
        self._more.set()

    async def run(self) -> None:
        """Put records until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._put_all, nursery)
            nursery.start_soon(self._announce_node)
            nursery.start_soon(self._announce_checkpoints)
            nursery.start_soon(self._keep_up)

    def _key(self, kind: DhtKind, name: bytes | int | str) -> str:
        return str(RecordKey.of(kind, self._network_id, name))

    # --- what is put when --------------------------------------------------------------------

    async def _announce_node(self) -> None:
        while True:
            signed = self._own_record()
            self.offer(self._key(DhtKind.NODE, signed.record.hotkey), encode(signed))
            await trio.sleep(NODE_RECORD_S)

    async def _announce_checkpoints(self) -> None:
        while True:
            await self._new_stable.wait()
            self._new_stable = trio.Event()
            turn_s = self._turn_s()
            if turn_s is None:
                continue
            await trio.sleep(turn_s)
            assert self._stable is not None
            if self._seen_seq >= self._stable.checkpoint.seq:
                self.counts["left_to_others"] += 1
                continue
            self.offer(self._checkpoint_key, encode(self._stable))
            await trio.sleep(CHECKPOINT_S)

    def _turn_s(self) -> float | None:
        """Return how long to wait for others to put the checkpoint first (rule 2)."""
        place = self._place()
        if place is None or self._stable is None:
            return None
        index, size = place
        return (index - self._stable.checkpoint.seq) % size * STAGGER_S

    def _on_put(self, key: str, value: bytes) -> None:
        if key == self._checkpoint_key:
            seq = decode(CheckpointCertificate, value).checkpoint.seq
            self._seen_seq = max(self._seen_seq, seq)

    async def _keep_up(self) -> None:
        while True:
            await trio.sleep(UPKEEP_S)
            while self._kept.sweep():
                await trio.lowlevel.checkpoint()
            for key in self._kept.due():
                value = self._dht.local(key)
                if value is not None:
                    self.offer(key, value)

    # --- putting -----------------------------------------------------------------------------

    async def _put_all(self, nursery: trio.Nursery) -> None:
        while True:
            while not self._waiting:
                self._more = trio.Event()
                await self._more.wait()
            key = next(iter(self._waiting))
            waiting = self._waiting.pop(key)
            if not await self._put(key, waiting):
                if waiting.tries < TRIES and self._retrying < MAX_WAITING:
                    nursery.start_soon(self._retry, key, waiting)
                else:
                    self.counts["given_up"] += 1
            await trio.sleep(PUT_EVERY_S)

    async def _put(self, key: str, waiting: _Waiting) -> bool:
        """Put a record; False if it is worth another try."""
        waiting.tries += 1
        try:
            replicas = await self._dht.put(key, waiting.value, deadline_s=PUT_S)
        except RecordError as error:
            self.counts["refused"] += 1
            log.info("record not put", reason=error.reason, problem=str(error))
        except NetworkError as error:
            log.info("record not taken", tries=waiting.tries, problem=str(error))
            return False
        else:
            self.counts["put"] += 1
            self.counts["replicas"] += replicas
        return True

    async def _retry(self, key: str, waiting: _Waiting) -> None:
        self._retrying += 1
        try:
            await trio.sleep(RETRY_S)
        finally:
            self._retrying -= 1
        if key not in self._waiting and len(self._waiting) < MAX_WAITING:
            self.counts["retried"] += 1
            self._waiting[key] = waiting
            self._more.set()
