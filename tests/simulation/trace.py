"""The trace: one line an event, readable, and hashed."""

from __future__ import annotations

import hashlib

from consensus.messages import (
    BatchBody,
    DecidedSlot,
    Evidence,
    FetchBatch,
    NewView,
    PrePrepare,
    Status,
    ViewChange,
    Vote,
)
from protocol.records.batch import Certificate
from protocol.records.checkpoint import CheckpointCertificate, CheckpointVote


def short(digest: bytes) -> str:
    return digest.hex()[:6]


def show_certificate(certificate: Certificate) -> str:
    header = certificate.header
    return f"{header.seq}:{short(header.digest)}@{certificate.view}"


def show(message) -> str:
    """One message in a few words."""
    match message:
        case Vote():
            place = f"e{message.epoch} v{message.view} n{message.seq}"
            return f"{message.kind.upper()} {place} {short(message.digest)} by {message.signer}"
        case PrePrepare(vote=vote, header=header):
            return (
                f"PRE-PREPARE e{vote.epoch} v{vote.view} n{vote.seq} {short(vote.digest)} on "
                + (short(header.parent))
            )
        case ViewChange():
            tip = show_certificate(message.tip) if message.tip else "-"
            held = " ".join(map(show_certificate, message.prepared)) or "-"
            return f"VIEW-CHANGE e{message.epoch} v{message.view} tip {tip} prepared {held}"
        case NewView():
            parts = "; ".join(f"{c.signer}: {show(c)[12:]}" for c in message.view_changes)
            return f"NEW-VIEW e{message.epoch} v{message.view} [{parts}]"
        case CheckpointVote(checkpoint=at) | CheckpointCertificate(checkpoint=at):
            kind = type(message).__name__
            return f"{kind} e{at.epoch} n{at.seq} {short(at.chain_hash)} {short(at.state_root)}"
        case Status():
            changing = " changing" if message.changing else ""
            return f"STATUS e{message.epoch} v{message.view} height {message.height}{changing}"
        case FetchBatch(seq=seq, digest=digest):
            return f"FETCH n{seq} {short(digest)}"
        case BatchBody(header=header):
            return f"BATCH n{header.seq} {short(header.digest)}"
        case DecidedSlot(certificate=certificate):
            return f"DECIDED {show_certificate(certificate)}"
        case Evidence(first=first, second=second):
            return f"EVIDENCE {show(first)} / {show(second)}"
    return type(message).__name__


class Trace:
    """Lines of one run; a run that nobody looks at keeps none."""

    def __init__(self, keep: bool) -> None:
        self.keep = keep
        self.lines: list[str] = []

    def note(self, now: int, who: str, what: str) -> None:
        self.lines.append(f"{now:>7} {who:<4} {what}")

    @property
    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()
