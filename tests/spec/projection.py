"""What of an engine and of the model must be equal after every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consensus.engine import Engine
from consensus.messages import ViewChange
from protocol.records.batch import Certificate
from tests.spec.itf import Record
from tests.spec.signers import NUMBERS, path_to

if TYPE_CHECKING:
    from tests.spec.replay import World


def certificate_of(certificate: Certificate | None) -> tuple[int, int]:
    if certificate is None:
        return 0, 1
    return certificate.view, NUMBERS[certificate.header.digest]


def of_engine(engine: Engine, chain: list) -> dict:
    core = engine.core
    above = {seq: slot for seq, slot in core.slots.items() if seq > core.tip_seq}
    return {
        "view": core.view,
        "changing": core.changing,
        "base": None if core.changing else core.base_seq,
        "tip": certificate_of(core.tip_certificate),
        "accepted": {NUMBERS[s.accepted] for s in above.values() if s.accepted},
        "committed": {NUMBERS[s.committed] for s in above.values() if s.committed},
        "rejected": {seq for seq, s in above.items() if s.rejected},
        "prepared": {certificate_of(s.prepared) for s in above.values() if s.prepared},
        "heard": {(c.signer, c.view) for c in core.view_changes.values()},
        "chain": [NUMBERS[certificate.header.digest] for _, certificate in chain],
    }


def of_model(node: Record) -> dict:
    return {
        "view": node.view,
        "changing": node.changing,
        "base": None if node.changing else node.base,
        "tip": (node.tip.view, node.tip.digest),
        "accepted": set(node.accepted),
        "committed": set(node.committed),
        "rejected": set(node.rejected),
        "prepared": {(c.view, c.digest) for c in node.prepared},
        "heard": {(c.signer, c.view) for c in node.heard},
        "chain": path_to(node.tip.digest),
    }


def sent_by_engines(world: World) -> dict:
    def content(c: ViewChange) -> tuple:
        prepared = frozenset(certificate_of(p) for p in c.prepared)
        return c.view, c.signer, certificate_of(c.tip), prepared

    return {
        "proposals": set(world.proposals),
        **{f"{kind}s": votes for kind, votes in world.votes.items()},
        "changes": {content(c) for c in world.changes.values()},
        "openings": {
            (o.view, frozenset(content(c) for c in o.view_changes)) for o in world.openings.values()
        },
    }


def sent_by_model(sent: Record) -> dict:
    def content(c: Record) -> tuple:
        prepared = frozenset((p.view, p.digest) for p in c.prepared)
        return c.view, c.signer, (c.tip.view, c.tip.digest), prepared

    kinds = ("prepares", "rejects", "commits")
    return {
        "proposals": {(p.view, p.digest) for p in sent.proposals},
        **{kind: {(c.view, c.digest): set(w) for c, w in sent[kind].items()} for kind in kinds},
        "changes": {content(c) for c in sent.changes},
        "openings": {(o.view, frozenset(content(c) for c in o.changes)) for o in sent.openings},
    }
