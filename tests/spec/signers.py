"""The model's digests and votes as real ones, signed with a keyed hash.

A digest of the model is a number: 1 is genesis, 2d + b the child of d with batch b.
"""

from __future__ import annotations

from consensus.certificate import build_certificate
from consensus.messages import (
    DecidedSlot,
    NewView,
    NewViewContent,
    PrePrepare,
    ViewChange,
    ViewChangeContent,
    Vote,
)
from consensus.validators import Voters
from protocol.codec import digest_of, sha256
from protocol.envelope import VoteKind, vote_payload
from protocol.records.batch import Batch, Certificate, Header
from protocol.records.validators import Validator, ValidatorSet
from tests.simulation.signing import NETWORK, consensus_key, hotkey, keyed_sign

BATCHES = tuple(Batch(state_root=sha256(b"batch", bytes([b])), actions=()) for b in (0, 1))


def make_voters(weights: tuple[int, ...]) -> Voters:
    members = tuple(
        Validator(hotkey=hotkey(i), consensus_key=consensus_key(i), weight=weight)
        for i, weight in enumerate(weights)
    )
    return Voters(ValidatorSet(epoch=0, members=members), NETWORK)


def seq_of(number: int) -> int:
    return number.bit_length() - 1


def path_to(number: int) -> list[int]:
    """Return the digests of the slots 1..n that end in `number`."""
    return [number >> shift for shift in range(seq_of(number) - 1, -1, -1)]


def header_of(number: int) -> Header:
    root = BATCHES[number % 2].body_root()
    return Header(epoch=0, seq=seq_of(number), parent=real(number // 2), body_root=root)


def real(number: int) -> bytes:
    """Return the real digest of a model's digest."""
    return NETWORK if number == 1 else header_of(number).digest


NUMBERS = {real(number): number for number in range(1, 16)}
"""The model's digest of a real one."""


class Signers:
    """Signs in anybody's name: for the Byzantine validator, and to rebuild certificates."""

    def __init__(self, voters: Voters) -> None:
        self.voters = voters

    def sign(self, kind: VoteKind, view: int, seq: int, digest: bytes, who: int) -> bytes:
        key = self.voters.key(who)
        payload = vote_payload(
            self.voters.domain, kind, view=view, seq=seq, digest=digest, signer=key
        )
        return keyed_sign(key)(payload)

    def vote(self, kind: str, view: int, number: int, who: int) -> Vote:
        seq, digest = seq_of(number), real(number)
        signature = self.sign(VoteKind(kind), view, seq, digest, who)
        return Vote(
            kind=kind, epoch=0, view=view, seq=seq, digest=digest, signer=who, signature=signature
        )

    def proposal(self, view: int, number: int, who: int) -> PrePrepare:
        vote = self.vote("prepare", view, number, who)
        return PrePrepare(vote=vote, header=header_of(number), batch=BATCHES[number % 2])

    def certificate(self, kind: str, view: int, number: int, who: set[int]) -> Certificate:
        signatures = {i: self.vote(kind, view, number, i).signature for i in who}
        return build_certificate(self.voters, header_of(number), kind, view, signatures)

    def decided(self, view: int, number: int, who: set[int]) -> DecidedSlot:
        certificate = self.certificate("commit", view, number, who)
        return DecidedSlot(batch=BATCHES[number % 2], certificate=certificate)

    def change(
        self, view: int, who: int, tip: Certificate | None, prepared: tuple[Certificate, ...]
    ) -> ViewChange:
        content = ViewChangeContent(epoch=0, view=view, tip=tip, prepared=prepared, signer=who)
        signature = self.sign(VoteKind.VIEW_CHANGE, view, 0, digest_of(content), who)
        return ViewChange(
            epoch=0, view=view, tip=tip, prepared=prepared, signer=who, signature=signature
        )

    def opening(self, view: int, who: int, changes: tuple[ViewChange, ...]) -> NewView:
        digest = digest_of(NewViewContent(view_changes=changes))
        signature = self.sign(VoteKind.NEW_VIEW, view, 0, digest, who)
        return NewView(epoch=0, view=view, view_changes=changes, signer=who, signature=signature)
