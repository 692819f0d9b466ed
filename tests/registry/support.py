"""Moves of a submission, as the tests of its life make them."""

from __future__ import annotations

from protocol.codec import digest_of, sha256
from protocol.records.canary import CanaryItem
from protocol.records.challenge import Challenge
from protocol.records.result import Result
from protocol.view import DictView
from registry import keys
from registry.access import write
from registry.lifecycle import report
from registry.submissions import Admitted, Ended, Event, SlotContext, admit, state_verdict
from tests.support import World, make_verdict

WORLD = World()
D = 5
"""Slots after which what waits is disputed."""
MAX_PENDING = 4


def slot(seq: int = 1, epoch: int = 0) -> SlotContext:
    digest = sha256(b"slot", bytes([seq]))
    return SlotContext(
        seq=seq,
        digest=digest,
        time_ms=1000 + seq,
        epoch=epoch,
        dispute_after=D,
        max_pending_per_hotkey=MAX_PENDING,
    )


def begin(view: DictView, epoch: int) -> None:
    write(view, keys.EPOCH, keys.Progress(epoch=epoch))


def admitted(view: DictView, body: bytes = b"body", at: SlotContext | None = None, **how) -> bytes:
    event = admit(view, at or slot(), WORLD.signed(body, **how))
    assert isinstance(event, Admitted)
    return event.submission_id


def result_of(event: Event | None) -> Result:
    assert isinstance(event, Ended)
    return event.result


def activate(view: DictView, candidate: Challenge) -> None:
    """Let a quorum report that the candidate's vectors ended as they must."""
    good = CanaryItem(challenge=digest_of(candidate), results=sha256(b"good"), failure="")
    for signer in range(3):
        report(view, WORLD.voters, signer, good)


def settle(view: DictView, submission_id: bytes, score: int, at: SlotContext) -> Result:
    verdict = make_verdict(submission_id, score)
    events = [state_verdict(view, WORLD.voters, at, signer, verdict) for signer in range(3)]
    return result_of(events[-1])
