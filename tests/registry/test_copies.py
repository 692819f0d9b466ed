"""Whose body it is when a submission ends badly, and how many copies a hotkey may have."""

from __future__ import annotations

from protocol.codec import encode
from protocol.records.result import Copy, Disputed
from protocol.view import DictView
from registry import keys
from registry.copies import MAX_COPIES
from registry.submissions import Ended, NoOp, admit, expire, why_inadmissible
from tests.registry.support import WORLD, D, admitted, begin, result_of, settle, slot


def state() -> DictView:
    return WORLD.state()


def test_what_ends_disputed_owns_nothing() -> None:
    """A squatter admits the author's body hash and nobody can evaluate it: the author goes on."""
    view = state()
    squatted = admitted(view, b"stolen", miner=1)
    (ended,) = expire(view, slot(1 + D))
    assert isinstance(ended, Ended)
    assert isinstance(ended.result.basis, Disputed)
    again = admitted(view, b"stolen", slot(2 + D), miner=0)
    assert settle(view, again, 7, slot(3 + D)).basis != Copy(original=squatted)


def test_an_author_whose_own_try_was_disputed_tries_again_in_the_same_epoch() -> None:
    view = state()
    admitted(view, b"mine")
    expire(view, slot(1 + D))
    admitted(view, b"mine", slot(2 + D), expiry_epoch=2)


def test_a_dispute_leaves_a_body_that_another_submission_owns_by_now() -> None:
    view = state()
    first = admitted(view, b"body", slot(1))
    begin(view, 1)
    later = admitted(view, b"body", slot(3, 1), expiry_epoch=2)  # the owner, in the next epoch
    (ended,) = expire(view, slot(1 + D, 1))
    assert ended.result.submission_id == first
    copy = admit(view, slot(2 + D, 1), WORLD.signed(b"body", miner=1))
    assert result_of(copy).basis == Copy(original=later)


def test_copies_of_a_hotkey_are_bounded_in_an_epoch() -> None:
    view = state()
    settle(view, admitted(view, b"body"), 7, slot(2))
    for number in range(MAX_COPIES):
        body = b"%d" % number
        settle(view, admitted(view, body, slot(3), miner=0), 7, slot(3))
        assert isinstance(admit(view, slot(3), WORLD.signed(body, miner=1)), Ended)
    before = {key: bytes(value) for key, value in view.items(b"")}
    refused = admit(view, slot(4), WORLD.signed(b"body", miner=1))
    assert isinstance(refused, NoOp)
    assert refused.reason == "too_many_copies"
    assert {key: bytes(value) for key, value in view.items(b"")} == before
    reason = why_inadmissible(view, WORLD.submission(b"body", miner=1))
    assert reason == "too_many_copies"


def test_what_is_no_copy_is_admitted_all_the_same_and_a_new_epoch_counts_anew() -> None:
    view = state()
    owner = admitted(view, b"body")
    settle(view, owner, 7, slot(2))
    spent = keys.CopiesOf(epoch=0, count=MAX_COPIES)
    view.put(keys.COPIES_OF + WORLD.miners[1].public_key, encode(spent))
    admitted(view, b"other", slot(3), miner=1)
    begin(view, 1)
    again = admit(view, slot(9, 1), WORLD.signed(b"body", miner=1))
    assert result_of(again).basis == Copy(original=owner)
