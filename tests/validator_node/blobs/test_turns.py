from __future__ import annotations

import math
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from validator_node.blobs.turns import MIN_TURN_S, MOST_TURNS, Failures, shuffled, turn_s

BLOB, OTHER = bytes(32), bytes([1]) * 32


def test_a_turn_is_an_equal_share_within_bounds():
    assert turn_s(300.0, 300.0, 2) == 100.0
    assert turn_s(300.0, 60.0, 2) == 300.0 / MOST_TURNS
    assert turn_s(300.0, 300.0, 99) == 300.0 / MOST_TURNS
    assert turn_s(8.0, 8.0, 9) == MIN_TURN_S
    assert turn_s(300.0, 1.0, 0) == math.inf


@given(st.integers(1, MOST_TURNS), st.floats(MIN_TURN_S * MOST_TURNS, 1e6))
def test_so_many_that_use_up_their_turns_leave_time_for_the_last(count: int, whole_s: float):
    left_s = whole_s
    for others in range(count - 1, 0, -1):
        left_s -= turn_s(whole_s, left_s, others)
    assert left_s >= 0.99 * whole_s / MOST_TURNS


def test_who_failed_is_last_for_the_same_blob_before_all():
    failures = Failures()
    assert failures.order(BLOB, "abca") == ["a", "b", "c"]
    failures.note(BLOB, "a", failed=True)
    failures.note(OTHER, "b", failed=True)
    assert failures.order(BLOB, "abcd") == ["c", "d", "b", "a"]
    assert failures.order(OTHER, "abcd") == ["c", "d", "a", "b"]
    failures.note(BLOB, "a", failed=False)
    assert failures.order(BLOB, "abcd") == ["a", "c", "d", "b"]


def test_the_oldest_failures_are_forgotten():
    failures = Failures(max_remembered=2)
    for peer_id in "abac":
        failures.note(BLOB, peer_id, failed=True)
    assert failures.order(BLOB, "acb") == ["b", "a", "c"]


def test_every_order_comes_up():
    seen = {tuple(shuffled("abc")) for _ in range(500)}
    assert seen == set(permutations("abc"))
