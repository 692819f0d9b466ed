import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_node import latency
from validator_node.latency import KEPT, Latencies, percentile


def test_an_own_proposal_is_timed_until_it_is_executed() -> None:
    latencies = Latencies()
    latencies.proposed(b"one", 10.0)
    latencies.proposed(b"two", 10.5)
    latencies.decided(b"two", 10.75)
    latencies.decided(b"one", 11.0)
    latencies.decided(b"one", 12.0)
    latencies.decided(b"somebody's", 12.0)
    assert list(latencies.decision_ms) == [250.0, 1000.0]


def test_only_the_newest_are_kept() -> None:
    latencies = Latencies()
    for number in range(KEPT + 2):
        latencies.proposed(b"%d" % number, 0.0)
        latencies.decided(b"%d" % number, float(number))
    assert len(latencies.decision_ms) == KEPT
    assert latencies.decision_ms[0] == 2000.0


def test_proposals_that_are_never_decided_are_forgotten() -> None:
    latencies = Latencies()
    limit = latency._OPEN_LIMIT
    for number in range(limit + 1):
        latencies.proposed(b"%d" % number, 0.0)
    latencies.decided(b"0", 1.0)
    assert not latencies.decision_ms
    latencies.decided(b"1", 1.0)
    assert len(latencies.decision_ms) == 1


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([], 50, 0.0),
        ([7.0], 1, 7.0),
        ([7.0], 99, 7.0),
        ([2.0, 1.0], 50, 1.0),
        ([3.0, 1.0, 2.0], 50, 2.0),
        ([4.0, 1.0, 3.0, 2.0], 50, 2.0),
        ([float(n) for n in range(1, 7)], 50, 3.0),
        ([float(n) for n in range(1, 101)], 99, 99.0),
        ([float(n) for n in range(1, 101)], 100, 100.0),
        ([float(n) for n in range(1, 201)], 99, 198.0),
        ([1.0, 2.0], 0, 1.0),
    ],
)
def test_percentiles_by_hand(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.integers(1, 100))
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(
    values: list[float], percent: int
) -> None:
    found = percentile(values, percent)
    needed = math.ceil(percent * len(values) / 100)
    assert found in values
    assert sum(value <= found for value in values) >= needed
    assert sum(value < found for value in values) < needed
