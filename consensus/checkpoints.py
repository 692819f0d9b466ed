"""Checkpoints: a quorum's word on executed state.

Rules:
11. Every K sequences, and at an epoch's edge, each validator signs (epoch, seq, chain hash, state
    root). Equal signatures of a quorum make the checkpoint *stable*: what lies below may be
    collected or handed to newcomers. It plays no part in agreement. Whoever finds its own root
    different from a quorum's stops voting, raises an alarm and must resync.
7.  CHECKPOINT is signed once for each (epoch, seq).
"""

from __future__ import annotations

from consensus.certificate import Verify, bitmap, signers_of_bitmap
from consensus.core import VOTE_RANGE, Core, UnwantedError
from consensus.effects import Broadcast, Diverged, PersistVow, Stable
from consensus.inputs import Executed
from consensus.validators import Voters
from protocol.envelope import VoteKind, vote_payload
from protocol.errors import ProofError
from protocol.records.checkpoint import Checkpoint, CheckpointCertificate, CheckpointVote

MAX_VOTES_PER_SIGNER = 8


def on_executed(core: Core, executed: Executed) -> None:
    """Note that a slot is executed; sign its checkpoint if one is due."""
    edge = executed.edge
    if edge is not None and edge.next_set.epoch == core.voters.epoch + 1:
        core.edge = edge  # not that of an epoch gone by: drivers repeat `Executed` after a restart
    core.executed = max(core.executed, executed.seq)
    at_edge = core.edge is not None and core.edge.seq == executed.seq
    due = executed.seq % core.parameters.checkpoint_interval == 0 or at_edge
    chain_hash = core.delivered.get(executed.seq)
    for seq in [seq for seq in core.delivered if seq <= executed.seq]:
        del core.delivered[seq]
    first = max(core.stable_seq, core.epoch_base[0] + 1)  # an epoch gone by has its checkpoints
    if not due or chain_hash is None or executed.seq < first:
        return
    checkpoint = Checkpoint(
        epoch=core.voters.epoch,
        seq=executed.seq,
        chain_hash=chain_hash,
        state_root=executed.state_root,
        next_set=core.edge.next_set if core.edge is not None and at_edge else None,
    )
    if core.stable is not None and executed.seq == core.stable_seq:
        if checkpoint != core.stable.checkpoint:
            stop_voting(core, checkpoint, core.stable.checkpoint)
        return
    core.own_checkpoints[executed.seq] = checkpoint
    if core.me is not None and core.me not in core.checkpoint_votes.get(executed.seq, {}):
        signature = core.signature(VoteKind.CHECKPOINT, 0, executed.seq, checkpoint.digest)
        vote = CheckpointVote(checkpoint=checkpoint, signer=core.me, signature=signature)
        core.emit(PersistVow("checkpoint", core.voters.epoch, 0, executed.seq, vote))
        core.emit(Broadcast(vote))
        _count(core, vote)
    try_stable(core, executed.seq)


def on_checkpoint_vote(core: Core, peer: int, vote: CheckpointVote) -> None:
    """Count a checkpoint vote that arrived on its signer's own link."""
    checkpoint = vote.checkpoint
    if checkpoint.epoch != core.voters.epoch:  # first: indices belong to one epoch's set
        raise UnwantedError("wrong_epoch")
    if vote.signer != peer:
        raise UnwantedError("foreign_vote")
    if checkpoint.seq <= core.stable_seq:
        raise UnwantedError("stale")
    if checkpoint.seq > core.tip_seq + VOTE_RANGE:
        raise UnwantedError("out_of_window")
    if vote.signer in core.checkpoint_votes.get(checkpoint.seq, {}):
        raise UnwantedError("duplicate")
    core.check_signature(
        VoteKind.CHECKPOINT, vote.signer, 0, checkpoint.seq, checkpoint.digest, vote.signature
    )
    _count(core, vote)
    try_stable(core, checkpoint.seq)


def _count(core: Core, vote: CheckpointVote) -> None:
    core.checkpoint_votes.setdefault(vote.checkpoint.seq, {})[vote.signer] = vote
    held = sorted(seq for seq, votes in core.checkpoint_votes.items() if vote.signer in votes)
    if len(held) > MAX_VOTES_PER_SIGNER:
        del core.checkpoint_votes[held[0]][vote.signer]


def try_stable(core: Core, seq: int) -> None:
    """Make the checkpoint at `seq` stable if a quorum has signed one and the same."""
    votes = core.checkpoint_votes.get(seq, {})
    for checkpoint in {vote.checkpoint.digest: vote.checkpoint for vote in votes.values()}.values():
        signers = sorted(s for s, vote in votes.items() if vote.checkpoint == checkpoint)
        if not core.voters.is_quorum(signers):
            continue
        certificate = CheckpointCertificate(
            checkpoint=checkpoint,
            signers=bitmap(signers, len(core.voters)),
            signatures=tuple(votes[signer].signature for signer in signers),
        )
        stabilise(core, certificate)
        return


def on_certificate(core: Core, certificate: CheckpointCertificate) -> None:
    """Take a stable checkpoint that somebody else gathered."""
    checkpoint = certificate.checkpoint
    if checkpoint.epoch != core.voters.epoch:
        raise UnwantedError("wrong_epoch")
    if checkpoint.seq <= core.stable_seq:
        raise UnwantedError("stale")
    judge_checkpoint(core, certificate)
    stabilise(core, certificate)


def judge_checkpoint(core: Core, certificate: CheckpointCertificate) -> None:
    """Raise `ProofError` unless a quorum of the epoch's set signed the checkpoint."""
    judge_by(core.voters_of(certificate.checkpoint.epoch), certificate, core.verify)


def judge_by(voters: Voters, certificate: CheckpointCertificate, verify: Verify) -> None:
    """Raise `ProofError` unless a quorum of `voters` signed the checkpoint of a slot of theirs."""
    checkpoint = certificate.checkpoint
    if checkpoint.epoch != voters.epoch:
        raise ProofError(f"checkpoint of epoch {checkpoint.epoch}, the set is of {voters.epoch}")
    voters.check_decides(checkpoint.seq)
    signers = signers_of_bitmap(certificate.signers, len(certificate.signatures), len(voters))
    if not voters.is_quorum(signers):
        raise ProofError(f"checkpoint {checkpoint.seq}: its signers are no quorum")
    for signer, signature in zip(signers, certificate.signatures, strict=True):
        key = voters.key(signer)
        payload = vote_payload(
            voters.domain,
            VoteKind.CHECKPOINT,
            view=0,
            seq=checkpoint.seq,
            digest=checkpoint.digest,
            signer=key,
        )
        if not verify(key, payload, signature):
            raise ProofError(f"checkpoint {checkpoint.seq}: signature of {signer} is not valid")


def stabilise(core: Core, certificate: CheckpointCertificate) -> None:
    """Make a proven checkpoint the stable one and collect what lies below it."""
    checkpoint = certificate.checkpoint
    core.stable = certificate
    core.emit(Stable(certificate))
    own = core.own_checkpoints.get(checkpoint.seq)
    if own is not None and own != checkpoint:
        stop_voting(core, own, checkpoint)
    for held in (core.checkpoint_votes, core.own_checkpoints):
        for seq in [seq for seq in held if seq <= checkpoint.seq]:
            del held[seq]


def stop_voting(core: Core, own: Checkpoint, certified: Checkpoint) -> None:
    """Fall silent, in later epochs too: this replica's state is not what a quorum executed."""
    core.me = core.key = None
    core.emit(Diverged(certified.seq, own.state_root, certified.state_root))
