"""Which offered snapshots to try, and in which order. Pure.

Rules:
1. A checkpoint is certified; what is offered as the state behind it, its manifest and its size, is
   the word of whoever offers it. So offers that say the same of the same checkpoint are one
   candidate, and others are another one: nobody answers for what he did not say.
2. All honest nodes make the same manifest of the same state. But a stranger can speak with many
   voices, so numbers decide only between equals: whose snapshots failed comes later, who is known
   (`Sources.rank`) comes first, then what most peers offer, then the newest.
3. What was found to be false is not tried again, whoever offers it. What could not be had is tried
   again after the others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from random import SystemRandom
from typing import Final

from protocol.codec import digest_of, sha256
from protocol.errors import ProofError, ProtocolError
from storage.snapshot_format import MAX_CHUNK_BYTES, MAX_CHUNKS
from validator_node.sync.records import SnapshotOffer, SyncOffer
from validator_node.sync.sources import Sources
from validator_node.sync.trust import SetChain

MAX_SIZE: Final = MAX_CHUNKS * MAX_CHUNK_BYTES
MAX_PROVEN: Final = 256

_random = SystemRandom()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A snapshot that proves itself, and who offers just this."""

    offer: SnapshotOffer
    holders: tuple[str, ...]

    @property
    def seq(self) -> int:
        """The slot whose state it is."""
        return self.offer.certificate.checkpoint.seq

    @property
    def claim(self) -> bytes:
        """Names what its holders claim: the checkpoint, the manifest and the size."""
        return claim_of(self.offer)


def claim_of(offer: SnapshotOffer) -> bytes:
    """Return the digest of what an offer claims, whoever signed the certificates in it."""
    checkpoint = offer.certificate.checkpoint.digest
    return sha256(checkpoint, offer.manifest, offer.size.to_bytes(8))


class Offered:
    """Finds the candidates among the offers of peers."""

    def __init__(self, chain: SetChain, sources: Sources) -> None:
        """Take what is proven from `chain`, and whose snapshots failed from `sources`."""
        self._chain = chain
        self._sources = sources
        self._proven: dict[bytes, None] = {}

    def candidates(
        self, offers: Mapping[str, SyncOffer], height: int, refused: Collection[bytes] = ()
    ) -> tuple[list[Candidate], list[str]]:
        """Return the snapshots beyond `height`, best first, and the peers whose offers are lies.

        `refused` are claims that were found to be false.
        """
        known: dict[bytes, SnapshotOffer] = {}
        holders: dict[bytes, list[str]] = {}
        liars: dict[str, None] = {}
        for peer_id, offer in offers.items():
            for snapshot in offer.snapshots:
                if snapshot.certificate.checkpoint.seq <= height:
                    continue
                claim = claim_of(snapshot)
                if claim in refused or peer_id in holders.get(claim, ()):
                    continue
                if self._chain.voters(snapshot.certificate.checkpoint.epoch) is None:
                    continue  # its sets could not be fetched yet: no lie
                if not self._proves_itself(snapshot):
                    liars[peer_id] = None
                    continue
                known.setdefault(claim, snapshot)
                holders.setdefault(claim, []).append(peer_id)
        found = [
            Candidate(known[claim], tuple(self._sources.ordered(holders[claim]))) for claim in known
        ]
        rested = [c for c in found if not all(map(self._sources.is_resting, c.holders))]
        every = rested or found
        return sorted(_random.sample(every, len(every)), key=self._order), list(liars)

    def _order(self, candidate: Candidate) -> tuple[int, int, int, int]:
        failures, standing = min(map(self._sources.rank, candidate.holders))
        return failures, standing, -len(candidate.holders), -candidate.seq

    def _proves_itself(self, snapshot: SnapshotOffer) -> bool:
        # A set that is found to have ended no longer proves what came later.
        digest = sha256(digest_of(snapshot), self._chain.next_epoch.to_bytes(8))
        if digest in self._proven:
            return True
        try:
            if snapshot.size > MAX_SIZE:
                raise ProofError(f"a snapshot has at most {MAX_SIZE} bytes, not {snapshot.size}")
            self._chain.prove(snapshot)
        except ProtocolError:
            return False
        self._proven[digest] = None
        if len(self._proven) > MAX_PROVEN:
            del self._proven[next(iter(self._proven))]
        return True
