from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import decode, encode, sha256
from protocol.errors import DecodeError
from protocol.records.genesis import Parameters
from protocol.records.result import result_key
from protocol.records.submission import MAX_EXPIRY_EPOCHS
from protocol.view import DictView
from registry import keys
from registry.pruning import PRUNED_A_SLOT, prune
from tests.registry.support import WORLD, admitted, begin, settle, slot
from tests.support import replaced

KEEP = 10


def settled(view: DictView, body: bytes, epoch: int) -> bytes:
    begin(view, epoch)
    submission_id = admitted(view, body, at=slot(1, epoch=epoch), expiry_epoch=epoch)
    settle(view, submission_id, 5, slot(2, epoch=epoch))
    return submission_id


def test_what_is_old_goes_and_what_is_new_stays() -> None:
    assert PRUNED_A_SLOT == 64, "another figure is another state"
    view = WORLD.state()
    genesis = dict(view.entries)
    old, new = settled(view, b"old", 1), settled(view, b"new", 2)
    assert prune(view, KEEP + 1, KEEP, 0) == 0
    assert prune(view, KEEP + 2, KEEP, 0) == 2
    assert view.get(result_key(old)) is None
    assert view.get(result_key(new)) is not None
    assert prune(view, KEEP + 3, KEEP, 0) == 2
    view.put(keys.EPOCH, genesis[keys.EPOCH])
    assert view.entries == genesis


def test_a_body_used_again_keeps_its_owner() -> None:
    view = WORLD.state()
    settled(view, b"body", 1)
    again = settled(view, b"body", 5)
    prune(view, KEEP + 2, KEEP, 0)
    body = keys.content_key("alpha", sha256(b"body"))
    assert view.get(body) is not None
    prune(view, KEEP + 6, KEEP, 0)
    assert view.get(body) is None
    assert view.get(result_key(again)) is None


def test_everything_can_be_kept() -> None:
    view = WORLD.state()
    settled(view, b"old", 1)
    assert prune(view, 10**6, None, 0) == 0


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 200))
def test_each_slot_prunes_a_bounded_part_until_nothing_is_left(
    ended: int, best: int, items: int
) -> None:
    view = DictView()
    for number in range(ended):
        view.put(keys.ENDED + keys.u64(1) + sha256(encode(number)), b"content")
    for number in range(best):
        view.put(keys.BEST + keys.u64(1) + sha256(encode(number)), b"")
    view.put(keys.BEST + keys.u64(2), b"stays")
    rounds = 0
    while (gone := prune(view, KEEP + 2, KEEP, items)) > 0:
        assert gone <= PRUNED_A_SLOT + items
        rounds += 1
    assert rounds == -(-(ended + best) // (PRUNED_A_SLOT + items))
    assert list(view.entries) == [keys.BEST + keys.u64(2)]


@pytest.mark.parametrize("keep", [0, 1, MAX_EXPIRY_EPOCHS])
def test_what_could_come_back_is_kept(keep: int) -> None:
    with pytest.raises(DecodeError, match="513"):
        decode(Parameters, encode(replaced(Parameters(), keep_epochs=keep)))
    for good in (None, MAX_EXPIRY_EPOCHS + 1):
        assert decode(Parameters, encode(Parameters(keep_epochs=good))).keep_epochs == good
