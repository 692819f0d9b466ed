import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_node import rate
from validator_node.rate import BURST_S, Budget


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_new_key_may_spend_a_burst_and_no_more(clock: Clock) -> None:
    budget = Budget(2.0, clock)
    assert [budget.spend(b"key") for _ in range(10)] == [True] * 8 + [False] * 2
    assert budget.spend(b"other")


def test_the_budget_refills_with_time(clock: Clock) -> None:
    budget = Budget(2.0, clock)
    assert budget.spend(b"key", 8)
    clock.now += 0.25
    assert not budget.spend(b"key")
    clock.now += 0.25
    assert budget.spend(b"key")
    assert not budget.spend(b"key")
    clock.now += 1.0
    assert budget.spend(b"key", 2)
    assert not budget.spend(b"key", 0.5)


def test_it_saves_up_no_more_than_a_burst(clock: Clock) -> None:
    budget = Budget(2.0, clock)
    assert budget.spend(b"key", 8)
    clock.now += 1000
    assert not budget.spend(b"key", 2 * BURST_S + 1)
    assert budget.spend(b"key", 2 * BURST_S)


def test_what_is_refused_costs_nothing(clock: Clock) -> None:
    budget = Budget(1.0, clock)
    assert budget.spend(b"key", 3)
    assert not budget.spend(b"key", 2)
    assert budget.spend(b"key", 1)


def test_the_least_recently_used_key_is_forgotten(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate, "MAX_KEYS", 2)
    budget = Budget(1.0, clock)
    for key in (b"a", b"b"):
        assert budget.spend(key, 4)
    assert not budget.spend(b"a")
    assert budget.spend(b"c", 4)
    assert not budget.spend(b"a")
    assert budget.spend(b"b", 4)


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2, 8]), st.sampled_from([1, 2, 4])), max_size=40))
def test_never_more_than_the_burst_and_the_rate(steps: list[tuple[int, int]]) -> None:
    clock = Clock()
    start, spent = clock.now, 0
    budget = Budget(1.0, clock)
    for wait, cost in steps:
        clock.now += wait
        if budget.spend(b"key", cost):
            spent += cost
        assert spent <= BURST_S + (clock.now - start)
