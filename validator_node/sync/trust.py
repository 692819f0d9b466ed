"""Which sets are proven, what proves itself by them, and what to do about being behind. Pure.

Rules:
1. Sets are proven from the genesis on, each by the edge checkpoint of the one before it
   (`consensus.transfer`). If the operator trusts an edge checkpoint, `EPOCH:DIGEST`, the chain of
   sets begins there instead, and a chain that has another checkpoint at that edge is refused.
2. A snapshot is worth its bytes from `SNAPSHOT_AHEAD` slots on, or where nobody holds the next slot
   of the log any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from consensus.certificate import Verify, judge_certificate
from consensus.messages import DecidedSlot
from consensus.transfer import next_voters, prove_sets, prove_snapshot
from consensus.validators import Voters
from protocol.errors import ProofError
from protocol.records.checkpoint import Checkpoint, CheckpointCertificate
from protocol.records.genesis import Genesis
from validator_node.errors import ConfigError
from validator_node.sync.records import SnapshotOffer, SyncOffer

SNAPSHOT_AHEAD = 1024


@dataclass(frozen=True, slots=True)
class TrustedCheckpoint:
    """An edge checkpoint that the operator vouches for."""

    epoch: int
    digest: bytes


def parse_trusted(text: str) -> TrustedCheckpoint | None:
    """Read `EPOCH:DIGEST`; None for an empty text. Raises `ConfigError`."""
    if not text:
        return None
    epoch, _, digest = text.partition(":")
    try:
        parsed = TrustedCheckpoint(int(epoch), bytes.fromhex(digest))
    except ValueError:
        parsed = TrustedCheckpoint(-1, b"")
    if parsed.epoch < 0 or len(parsed.digest) != 32:
        raise ConfigError(
            f"trusted_checkpoint: {text!r} is not EPOCH:DIGEST, such as the line "
            "`validator-node checkpoint` prints on a node you trust"
        )
    return parsed


class SetChain:
    """The validator sets as far as they are proven."""

    def __init__(
        self, genesis: Genesis, verify: Verify, trusted: TrustedCheckpoint | None = None
    ) -> None:
        self._network_id = genesis.network_id
        self._verify = verify
        self._trusted = trusted
        self._handovers: dict[int, CheckpointCertificate] = {}
        first = Voters(genesis.validators.for_epoch(0), genesis.network_id)
        self._voters = {0: first}
        self._newest = 0

    @property
    def next_epoch(self) -> int:
        """The epoch whose edge checkpoint would extend the chain."""
        if self._trusted is not None and self._newest <= self._trusted.epoch:
            return self._trusted.epoch
        return self._newest

    def voters(self, epoch: int) -> Voters | None:
        """Return the proven set of an epoch."""
        return self._voters.get(epoch)

    def is_beyond(self, epoch: int) -> bool:
        """Whether the set of an epoch is later than all that are proven."""
        return epoch > self._newest

    def handovers(self, below: int) -> tuple[CheckpointCertificate, ...]:
        """Return the edge checkpoints of the epochs before `below` that the chain rests on."""
        return tuple(h for epoch, h in sorted(self._handovers.items()) if epoch < below)

    def extend(self, handovers: Iterable[CheckpointCertificate]) -> None:
        """Take edge checkpoints from `next_epoch` on. Raises `ProofError`; takes what is proven."""
        for handover in handovers:
            checkpoint = handover.checkpoint
            if checkpoint.epoch != self.next_epoch:
                raise ProofError(
                    f"the edge checkpoint of epoch {self.next_epoch} was expected, "
                    f"not of {checkpoint.epoch}"
                )
            if self._trusted is not None and checkpoint.epoch == self._trusted.epoch:
                self._check_trusted(checkpoint)
                following = next_voters(handover, self._network_id)
            else:
                _, following = prove_sets(self._voters[self._newest], [handover], self._verify)
            self._take(handover, following)

    def adopt(self, handovers: Iterable[CheckpointCertificate]) -> None:
        """Take the edge checkpoints that this node proved before and kept, in order.

        Raises `ProofError` if they contradict the operator's trusted checkpoint.
        """
        for handover in handovers:
            self._check_trusted(handover.checkpoint)
            self._take(handover, next_voters(handover, self._network_id))

    def _take(self, handover: CheckpointCertificate, following: Voters) -> None:
        checkpoint = handover.checkpoint
        self._handovers[checkpoint.epoch] = handover
        ended = self._voters.get(checkpoint.epoch)
        if ended is not None:
            self._voters[checkpoint.epoch] = ended.ending(checkpoint.seq)
        self._newest = following.epoch
        self._voters[self._newest] = following

    def _check_trusted(self, checkpoint: Checkpoint) -> None:
        trusted = self._trusted
        if trusted is None or checkpoint.epoch != trusted.epoch:
            return
        if checkpoint.digest != trusted.digest:
            raise ProofError(
                f"the edge checkpoint of epoch {trusted.epoch} is {checkpoint.digest.hex()}, "
                f"the operator trusts {trusted.digest.hex()}"
            )

    def prove(self, offer: SnapshotOffer) -> None:
        """Raise `ProofError` unless an offered snapshot's checkpoint is certified by its set."""
        epoch = offer.certificate.checkpoint.epoch
        voters = self._voters.get(epoch)
        if voters is None:
            raise ProofError(f"the set of epoch {epoch} is not proven")
        prove_snapshot(voters, offer.certificate, offer.decided, self._verify)


def plan(
    height: int,
    offers: Mapping[str, SyncOffer],
    snapshot: int | None,
    *,
    turn: Literal["log", "snapshot"] | None = None,
) -> Literal["current", "log", "snapshot", "stuck"]:
    """Return what a node at `height` should do (rule 2).

    `snapshot` is the slot of the snapshot that would be tried. `turn` says which of the two is
    preferred, however far it leads, because the other one came to nothing or is not wanted. stuck:
    others are ahead, and neither a log nor a snapshot leads there.
    """
    ahead = [offer for offer in offers.values() if offer.height > height]
    holding = any(offer.first_held <= height + 1 for offer in ahead)
    is_near = snapshot is None or snapshot < height + SNAPSHOT_AHEAD
    by_log = holding and (turn == "log" or (is_near and turn is None))
    if snapshot is not None and snapshot > height and not by_log:
        return "snapshot"
    if not ahead:
        return "current"
    return "log" if holding else "stuck"


def check_slot(slot: DecidedSlot, seq: int, voters: Voters, verify: Verify) -> None:
    """Raise `ProofError` unless this is the decided slot `seq` with its own body."""
    header = slot.certificate.header
    if header.seq != seq:
        raise ProofError(f"slot {seq} was expected, not {header.seq}")
    if slot.batch.body_root() != header.body_root:
        raise ProofError(f"slot {seq}: the body is not the one its header names")
    judge_certificate(voters, slot.certificate, "commit", verify)


def known_sets(
    genesis: Genesis, handovers: Iterable[CheckpointCertificate], verify: Verify, trusted: str
) -> SetChain:
    """Return the chain of sets that a node has proven before, in the light of `trusted`.

    Raises `ConfigError` where the operator trusts another history than the node has.
    """
    sets = SetChain(genesis, verify, parse_trusted(trusted))
    try:
        sets.adopt(handovers)
    except ProofError as error:
        raise ConfigError(
            f"trusted_checkpoint contradicts this node's database: {error}"
        ) from error
    return sets
