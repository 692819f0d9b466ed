"""State transfer: what proves a snapshot to a replica that has seen nothing of its epoch.

Rules:
19. A snapshot must hash to the state root of a stable checkpoint, which whoever installs it checks;
    here the checkpoint proves itself against its epoch's set. Sets are proven one by one: each
    former epoch's edge checkpoint names the next set and is signed by its own.
8.  A snapshot brings no vows. A replica that has lost its own must stay an observer.

A replica that follows an old chain of sets could be led astray by keys that were sold since (weak
subjectivity). An operator may therefore name an edge checkpoint to start from: its set is then
trusted, and nothing before it is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable

from consensus.certificate import Verify, judge_certificate
from consensus.checkpoints import judge_by
from consensus.validators import Voters
from protocol.errors import ProofError
from protocol.records.batch import Certificate
from protocol.records.checkpoint import CheckpointCertificate


def prove_sets(
    voters: Voters, handovers: Iterable[CheckpointCertificate], verify: Verify
) -> list[Voters]:
    """Return `voters` and the sets that follow, each proven by the one before it.

    `handovers` are the edge checkpoints from the epoch of `voters` on, without a gap; each ends the
    epoch of the set that signed it. Raises `ProofError` for the first that does not prove itself.
    """
    proven: list[Voters] = []
    for handover in handovers:
        checkpoint = handover.checkpoint
        if checkpoint.epoch != voters.epoch:
            raise ProofError(
                f"the hand-over of epoch {voters.epoch} was expected, not of {checkpoint.epoch}"
            )
        judge_by(voters, handover, verify)
        proven.append(voters.ending(checkpoint.seq))
        voters = next_voters(handover, voters.domain.network_id)
    return [*proven, voters]


def next_voters(handover: CheckpointCertificate, network_id: bytes) -> Voters:
    """Return the set that an edge checkpoint names, believing it. Raises `ProofError` for others.

    To be called for a checkpoint that was proven, or that the operator trusts.
    """
    checkpoint = handover.checkpoint
    if checkpoint.next_set is None or checkpoint.next_set.epoch != checkpoint.epoch + 1:
        raise ProofError(f"checkpoint {checkpoint.seq} does not name the set of the next epoch")
    return Voters(checkpoint.next_set, network_id, after=checkpoint.seq)


def prove_snapshot(
    voters: Voters, certificate: CheckpointCertificate, decided: Certificate, verify: Verify
) -> None:
    """Raise `ProofError` unless a quorum certified the checkpoint and decided its very slot."""
    checkpoint = certificate.checkpoint
    header = decided.header
    if (header.seq, header.epoch, header.digest) != (
        checkpoint.seq,
        checkpoint.epoch,
        checkpoint.chain_hash,
    ):
        raise ProofError(f"the certificate is not of slot {checkpoint.seq}, the checkpoint's")
    judge_by(voters, certificate, verify)
    judge_certificate(voters, decided, "commit", verify)
