"""Proofs that hold, but not for what they are shown for: another kind, another epoch, too few.

Former members are no members of the coalition: their keys were sold after their epoch. They sign
for their own epoch alone, and only for slots after its edge, as nobody in it ever did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from consensus.certificate import bitmap, build_certificate
from consensus.messages import DecidedSlot, ViewChange, ViewChangeContent
from protocol.codec import digest_of, sha256
from protocol.envelope import VoteKind, vote_payload
from protocol.records.batch import Certificate, Header
from protocol.records.checkpoint import Checkpoint, CheckpointCertificate
from tests.simulation.signing import NETWORK, Body, keyed_sign

if TYPE_CHECKING:
    from tests.simulation.byzantine import Coalition, Traitor


def make_change(coalition: Coalition, epoch: int, view: int, signer: int, tip, prepared):
    content = ViewChangeContent(epoch=epoch, view=view, tip=tip, prepared=prepared, signer=signer)
    signature = coalition.sign(epoch, signer, "view-change", view, 0, digest_of(content))
    return ViewChange(
        epoch=epoch, view=view, tip=tip, prepared=prepared, signer=signer, signature=signature
    )


def epoch_start(coalition: Coalition, epoch: int) -> tuple[int, bytes]:
    plan, decided = coalition.network.plan, coalition.network.checks.decided
    seq = epoch * (plan.epoch_slots + plan.window) if plan.epoch_slots else 0
    return seq, decided.get(seq, NETWORK)


def false_change(coalition: Coalition, message: ViewChange) -> ViewChange | None:
    """A view change whose tip is a certificate of another kind or epoch."""
    rng, epoch = coalition.rng, message.epoch
    wanted = rng.choice(((epoch, "prepare"), (epoch - 1, "commit")))
    tips = [
        certificate
        for (of, kind, _), found in coalition.certificates.items()
        if (of, kind) == wanted
        for certificate in found.values()
    ]
    if not tips:
        return None
    tip = rng.choice(tips[-12:])
    return make_change(coalition, epoch, message.view, message.signer, tip, ())


def lone_checkpoint(coalition: Coalition, traitor: Traitor) -> None:
    """A checkpoint of a wrong state that the coalition alone has signed."""
    network = coalition.network
    epoch, _ = max(network.views)
    signers = coalition.traitors(epoch)
    decided = network.checks.decided
    if not signers or not decided:
        return
    seq = coalition.rng.choice([s for s in decided if s > epoch_start(coalition, epoch)[0]] or [0])
    if seq == 0:
        return
    checkpoint = Checkpoint(
        epoch=epoch,
        seq=seq,
        chain_hash=decided[seq],
        state_root=sha256(b"wrong", decided[seq]),
        next_set=None,
    )
    signatures = tuple(
        coalition.sign(epoch, signer, "checkpoint", 0, seq, checkpoint.digest) for signer in signers
    )
    lone = CheckpointCertificate(
        checkpoint=checkpoint,
        signers=bitmap(signers, len(coalition.voters(epoch))),
        signatures=signatures,
    )
    for member in coalition.some():
        if member != traitor.member:
            network.send(traitor, member, lone)


def former_members_decide(coalition: Coalition, traitor: Traitor) -> None:
    """All keys of an ended epoch decide a slot of the present, before its members can."""
    network, rng = coalition.network, coalition.rng
    present = [
        replica for replica in network.honest if replica.alive and replica.engine.core.voters.epoch
    ]
    if not present:
        return
    victim = rng.choice(present)
    core = victim.engine.core
    epoch = core.voters.epoch - rng.choice((1, 1, 2))
    if epoch < 0:
        return
    body = Body(network.coalition_root(core.tip_seq + 1), network.nonce())
    header = Header(
        epoch=epoch, seq=core.tip_seq + 1, parent=core.tip_digest, body_root=body.body_root()
    )
    certificate = signed_by_all(coalition, header, view=rng.choice((0, core.view)))
    network.send(traitor, victim.member, DecidedSlot(batch=body, certificate=certificate))


def signed_by_all(coalition: Coalition, header: Header, view: int) -> Certificate:
    voters = coalition.voters(header.epoch)
    signatures = {}
    for signer in range(len(voters)):
        key = voters.key(signer)
        payload = vote_payload(
            voters.domain, VoteKind.COMMIT, view=view, seq=header.seq, digest=header.digest,
            signer=key,
        )  # fmt: skip
        signatures[signer] = keyed_sign(key)(payload)
    return build_certificate(voters, header, "commit", view, signatures)
