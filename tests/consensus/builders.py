"""Builders: a set of validators with cheap keys, everything they sign, and one engine of them.

A signature is a keyed hash under the signer's public key. Only this folder can make one, it costs a
microsecond, and a flipped bit anywhere is noticed, which is all that the engine asks of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings

from consensus.certificate import bitmap, build_certificate
from consensus.effects import CancelTimer, Effect, Persist, Refused, SetTimer
from consensus.engine import Engine
from consensus.inputs import BatchChecked, Executed, Propose, Received, Timer, TimerFired
from consensus.messages import (
    NewView,
    NewViewContent,
    PrePrepare,
    ViewChange,
    ViewChangeContent,
    Vote,
)
from consensus.validators import Voters
from protocol.codec import digest_of, encode, sha256
from protocol.envelope import VoteKind, vote_payload
from protocol.records.batch import Batch, Certificate, Header
from protocol.records.checkpoint import Checkpoint, CheckpointCertificate, CheckpointVote
from protocol.records.genesis import Parameters
from protocol.records.validators import Validator, ValidatorSet

NETWORK = sha256(b"network of the consensus tests")
GENESIS = NETWORK
"""The digest before slot 1."""
patient = settings(suppress_health_check=[HealthCheck.too_slow])
"""For properties: a busy machine is no counterexample."""


def key_of(name: str) -> bytes:
    return sha256(b"key", name.encode())


def sign(key: bytes, payload: bytes) -> bytes:
    return hashlib.blake2b(payload, key=key, digest_size=64).digest()


def verify(key: bytes, payload: bytes, signature: bytes) -> bool:
    return sign(key, payload) == signature


def make_set(weights: dict[str, int], epoch: int = 0) -> ValidatorSet:
    return ValidatorSet(
        epoch=epoch,
        members=tuple(
            Validator(
                hotkey=sha256(b"hotkey", name.encode()), consensus_key=key_of(name), weight=weight
            )
            for name, weight in weights.items()
        ),
    )


def make_voters(
    *weights: int, epoch: int = 0, after: int = 0, network_id: bytes = NETWORK
) -> Voters:
    named = {f"v{index}": weight for index, weight in enumerate(weights)}
    return Voters(make_set(named, epoch), network_id, after=after)


def make_batch(name: str) -> Batch:
    return Batch(state_root=sha256(b"batch", name.encode()), actions=())


def make_header(name: str, seq: int = 1, parent: bytes = GENESIS, epoch: int = 0) -> Header:
    return Header(epoch=epoch, seq=seq, parent=parent, body_root=make_batch(name).body_root())


def make_chain(
    *names: str, parent: bytes = GENESIS, epoch: int = 0, first: int = 1
) -> list[Header]:
    """Return headers of the batches in consecutive slots, each the child of the one before."""
    headers: list[Header] = []
    for seq, name in enumerate(names, first):
        headers.append(make_header(name, seq, parent, epoch))
        parent = headers[-1].digest
    return headers


class Signers:
    """Everything the members of a set sign."""

    def __init__(self, voters: Voters) -> None:
        self.voters = voters
        self.epoch = voters.epoch

    def signature(self, kind: str, signer: int, view: int, seq: int, digest: bytes) -> bytes:
        key = self.voters.key(signer)
        payload = vote_payload(
            self.voters.domain, VoteKind(kind), view=view, seq=seq, digest=digest, signer=key
        )
        return sign(key, payload)

    def vote(self, kind: str, signer: int, header: Header, view: int = 0, **changes: Any) -> Vote:
        fields = {
            "kind": kind,
            "epoch": self.epoch,
            "view": view,
            "seq": header.seq,
            "digest": header.digest,
            "signer": signer,
            "signature": self.signature(kind, signer, view, header.seq, header.digest),
        }
        return Vote(**{**fields, **changes})

    def proposal(self, name: str, header: Header, view: int = 0, **changes: Any) -> PrePrepare:
        primary = self.voters.primary(view)
        fields = {
            "vote": self.vote("prepare", primary, header, view),
            "header": header,
            "batch": make_batch(name),
        }
        return PrePrepare(**{**fields, **changes})

    def certificate(
        self, header: Header, kind: str = "commit", view: int = 0, signers: Any = None
    ) -> Certificate:
        """Return a certificate; `signers` are taken as they are, a quorum or not."""
        if signers is None:
            signatures = {
                index: self.signature(kind, index, view, header.seq, header.digest)
                for index in range(len(self.voters))
            }
            return build_certificate(self.voters, header, kind, view, signatures)
        return Certificate(
            header=header,
            kind=kind,
            view=view,
            signers=bitmap(list(signers), len(self.voters)),
            signatures=tuple(
                self.signature(kind, index, view, header.seq, header.digest) for index in signers
            ),
        )

    def view_change(
        self,
        signer: int,
        view: int,
        tip: Certificate | None = None,
        prepared: tuple[Certificate, ...] = (),
        **changes: Any,
    ) -> ViewChange:
        content = ViewChangeContent(
            epoch=self.epoch, view=view, tip=tip, prepared=tuple(prepared), signer=signer
        )
        fields = {
            "epoch": self.epoch,
            "view": view,
            "tip": tip,
            "prepared": tuple(prepared),
            "signer": signer,
            "signature": self.signature("view-change", signer, view, 0, digest_of(content)),
        }
        return ViewChange(**{**fields, **changes})

    def new_view(self, view: int, changes: Any, signer: int | None = None) -> NewView:
        by = self.voters.primary(view) if signer is None else signer
        content = NewViewContent(view_changes=tuple(changes))
        return NewView(
            epoch=self.epoch,
            view=view,
            view_changes=tuple(changes),
            signer=by,
            signature=self.signature("new-view", by, view, 0, digest_of(content)),
        )

    def checkpoint_vote(self, signer: int, checkpoint: Checkpoint) -> CheckpointVote:
        signature = self.signature("checkpoint", signer, 0, checkpoint.seq, checkpoint.digest)
        return CheckpointVote(checkpoint=checkpoint, signer=signer, signature=signature)

    def stable(self, checkpoint: Checkpoint, signers: Any) -> CheckpointCertificate:
        return CheckpointCertificate(
            checkpoint=checkpoint,
            signers=bitmap(list(signers), len(self.voters)),
            signatures=tuple(
                self.checkpoint_vote(signer, checkpoint).signature for signer in signers
            ),
        )


class Node:
    """One engine under test, whose peers are played by the test through `peers`."""

    def __init__(self, *weights: int, me: int | None = 1, **parameters: int) -> None:
        self.voters = make_voters(*(weights or (1, 1, 1, 1)))
        self.peers = Signers(self.voters)
        self.me = me
        self.parameters = Parameters(**{"checkpoint_interval": 4, **parameters})
        self.durable: list[Persist] = []
        self.timers: dict[Timer, int] = {}
        self.engine = self.build()

    def build(self, **recovered: Any) -> Engine:
        key = None if self.me is None else self.voters.key(self.me)
        return Engine(
            self.voters,
            self.me,
            sign=lambda payload: sign(key, payload),
            verify=verify,
            parameters=self.parameters,
            genesis_digest=GENESIS,
            **recovered,
        )

    @property
    def core(self):
        return self.engine.core

    def step(self, event) -> list[Effect]:
        """Apply an input; return its effects but for the timers, which are kept in `timers`."""
        effects = []
        for effect in self.engine.step(event):
            if isinstance(effect, Persist):
                self.durable.append(effect)
            if isinstance(effect, SetTimer):
                self.timers[effect.timer] = effect.delay_ms
            elif isinstance(effect, CancelTimer):
                self.timers.pop(effect.timer)
            else:
                effects.append(effect)
        return effects

    def enter(self, view: int, *, changing: bool = False) -> None:
        """Put the replica into a view."""
        self.core.enter(view, changing=changing)
        self.core.take_effects()

    def fire(self, timer: Timer) -> list[Effect]:
        """Let a timer run out that is set."""
        del self.timers[timer]
        return self.step(TimerFired(timer))

    def receive(self, message, peer: int | None = None) -> list[Effect]:
        """Let a message arrive from its signer, or from `peer`."""
        if peer is None:
            peer = message.vote.signer if isinstance(message, PrePrepare) else message.signer
        return self.step(Received(peer, message))

    def refused(self, message, peer: int | None = None) -> str:
        """Return why a message is refused; it must have had no other effect."""
        effects = self.receive(message, peer)
        assert [type(effect) for effect in effects] == [Refused], effects
        return effects[0].reason

    def approve(self, name: str, header: Header, view: int = 0) -> list[Effect]:
        """Let the primary's proposal arrive and be judged valid."""
        effects = self.receive(self.peers.proposal(name, header, view))
        checked = BatchChecked(view, header.seq, header.digest, valid=True)
        return effects + self.step(checked)

    def votes(self, kind: str, header: Header, *signers: int, view: int = 0) -> list[Effect]:
        return [
            effect
            for signer in signers
            for effect in self.receive(self.peers.vote(kind, signer, header, view))
        ]

    def propose(self, name: str) -> list[Effect]:
        return self.step(Propose(make_batch(name)))

    def execute(self, seq: int, root: bytes | None = None, edge=None) -> list[Effect]:
        return self.step(Executed(seq, root or sha256(b"state", bytes([seq])), edge))

    def decide(self, *names: str, view: int = 0) -> list[Effect]:
        """Decide batches in the next slots, one after the other, all executed."""
        effects = []
        for name in names:
            header = make_header(name, self.core.tip_seq + 1, self.core.tip_digest)
            effects += self.approve(name, header, view)
            others = [i for i in range(len(self.voters)) if i != self.me]
            effects += self.votes("prepare", header, *others[1:], view=view)
            effects += self.votes("commit", header, *others, view=view)
            effects += self.execute(header.seq)
        return effects


def of_type(effects: list[Effect], *kinds: type) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, kinds)]


def projection(value: Any) -> Any:
    """Return everything a core holds as plain comparable data, down to the bytes of records."""
    if isinstance(value, (str, int, bytes, type(None))):
        return value
    if isinstance(value, dict):
        return [(projection(key), projection(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [projection(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(projection(item) for item in value)
    if isinstance(value, Voters):
        return value.domain.set_hash
    if callable(value):
        return "function"
    if hasattr(value, "__struct_fields__"):
        return encode(value)
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return [(field.name, projection(getattr(value, field.name))) for field in fields]
    return [(name, projection(item)) for name, item in sorted(vars(value).items())]


def replaced(record: Any, /, **changes: Any) -> Any:
    """Return a copy of a record with some fields changed."""
    return msgspec.structs.replace(record, **changes)
