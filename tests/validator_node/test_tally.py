from __future__ import annotations

from protocol.codec import sha256
from protocol.records.result import Copy, Disputed, Replicated, Result
from validator_node.tally import Tally


def result(basis: Replicated | Disputed | Copy, epoch: int = 0) -> Result:
    return Result(
        submission_id=sha256(b"submission"),
        hotkey=bytes(32),
        uid=4,
        challenge_id="alpha",
        challenge_version=1,
        epoch=epoch,
        admitted_seq=1,
        settled_seq=2,
        basis=basis,
    )


SETTLED = Replicated(verdict_hash=bytes(32), outcome_class="ok", score=7)


def test_what_ends_is_no_longer_pending_and_counts_by_how_it_ended() -> None:
    tally = Tally(pending=1)
    tally.on_executed(2, [result(SETTLED, epoch=3), result(Disputed(reason="split"), epoch=9)])
    assert (tally.pending, tally.settled, tally.disputed, tally.copies) == (1, 1, 1, 0)
    assert tally.results_epoch == 3


def test_a_copy_was_never_pending() -> None:
    tally = Tally(pending=0)
    tally.on_executed(0, [result(Copy(original=bytes(32)))])
    assert (tally.pending, tally.copies) == (0, 1)
    assert tally.results_epoch == -1
