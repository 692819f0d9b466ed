"""The watchdog by itself: time, calls and heads go in, states and actions come out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.watchdog import Action, Ended, Health, Limits, Watchdog

LIMITS = Limits(stale_s=100, hopeless_s=1000, rebuilds=1, most_hung_threads=2)


def running(limits: Limits = LIMITS) -> Watchdog:
    """Return a watchdog at time 0 that has seen block 10."""
    dog = Watchdog(limits, 0)
    dog.connected(0)
    dog.head_seen(10, 0)
    assert dog.health is Health.HEALTHY
    return dog


def ends(dog: Watchdog, how: Ended, begun: float = 1, ended: float = 21) -> Action:
    return dog.call_ended(dog.call_begun("reading", begun), how, ended)


def test_before_the_first_head_it_is_rebuilding():
    dog = Watchdog(LIMITS, 0)
    assert (dog.health, dog.head, dog.in_flight) == (Health.REBUILDING, -1, 0)
    dog.connected(1)
    assert dog.health is Health.REBUILDING
    dog.head_seen(0, 2)
    assert (dog.health, dog.head) == (Health.HEALTHY, 0)


def test_answers_change_nothing():
    dog = running()
    assert ends(dog, Ended.ANSWERED) is Action.NONE
    assert (dog.health, dog.counts["calls"], dog.counts["answered"]) == (Health.HEALTHY, 1, 1)


def test_a_silent_call_costs_the_connection_and_the_second_one_the_endpoint():
    dog = running()
    assert ends(dog, Ended.SILENT) is Action.REBUILD
    assert (dog.health, dog.last_reason) == (Health.HALF_OPEN, "reading got no answer in 20.0 s")
    dog.connected(22)
    assert dog.health is Health.REBUILDING
    assert ends(dog, Ended.SILENT) is Action.FAIL_OVER
    assert ends(dog, Ended.SILENT) is Action.REBUILD
    assert (dog.counts["rebuild"], dog.counts["fail_over"], dog.counts["silent"]) == (2, 1, 3)


def test_a_new_head_forgives_the_silence():
    dog = running()
    ends(dog, Ended.SILENT)
    dog.connected(22)
    dog.head_seen(11, 23)
    assert ends(dog, Ended.SILENT) is Action.REBUILD


def test_an_old_head_is_no_progress():
    dog = running()
    ends(dog, Ended.SILENT)
    dog.connected(22)
    dog.head_seen(10, 23)
    dog.head_seen(9, 24)
    assert (dog.health, dog.head, dog.age_s(25)) == (Health.REBUILDING, 10, 25)
    assert ends(dog, Ended.SILENT) is Action.FAIL_OVER


def test_a_lost_connection_costs_the_endpoint_at_once():
    dog = running()
    assert ends(dog, Ended.LOST) is Action.FAIL_OVER
    assert (dog.health, dog.last_reason) == (Health.REBUILDING, "reading lost its connection")


def test_an_endpoint_that_repeats_itself_is_stale():
    dog = running()
    for now in range(1, 100, 6):
        dog.head_seen(10, now)
        assert dog.tick(now) is Action.NONE
    assert dog.tick(100) is Action.FAIL_OVER
    assert (dog.health, dog.counts["stale"]) == (Health.STALE, 1)
    assert dog.last_reason == "no new finalised block for 100.0 s"
    dog.connected(101)
    assert dog.health is Health.STALE
    assert dog.tick(200) is Action.NONE
    assert dog.tick(201) is Action.FAIL_OVER
    dog.head_seen(11, 202)
    assert dog.health is Health.HEALTHY


def test_without_progress_it_gives_up_and_stays_so():
    dog = running()
    assert dog.tick(1000) is Action.EXIT
    assert (dog.health, dog.last_reason) == (Health.FAILED, "no new finalised block for 1000 s")
    dog.connected(1001)
    dog.head_seen(99, 1002)
    assert ends(dog, Ended.SILENT) is Action.NONE
    assert dog.connect_failed(Ended.HUNG, "late") is Action.NONE
    assert (dog.health, dog.tick(1003)) == (Health.FAILED, Action.EXIT)
    assert dog.last_reason == "no new finalised block for 1000 s"


def test_hung_threads_are_bounded():
    dog = running()
    assert ends(dog, Ended.HUNG) is Action.REBUILD
    assert dog.health is Health.HUNG
    assert dog.last_reason == "reading got no answer in 20.0 s and its thread hangs"
    assert dog.connect_failed(Ended.HUNG, "connecting hangs") is Action.NONE
    dog.thread_ended()
    assert dog.hung_threads == 1
    assert ends(dog, Ended.HUNG) is Action.FAIL_OVER
    assert ends(dog, Ended.HUNG) is Action.EXIT
    assert dog.health is Health.FAILED
    assert dog.last_reason.startswith("hung threads of the SDK: 3, more than 2; the last: reading")


def test_endpoints_that_cannot_be_connected_to_are_counted_with_the_reason():
    dog = Watchdog(LIMITS, 0)
    assert dog.connect_failed(Ended.LOST, "refused") is Action.NONE
    assert (dog.health, dog.counts["refused"]) == (Health.REBUILDING, 1)
    assert dog.last_reason == "refused"


def test_a_forgotten_call_is_in_flight_no_more():
    dog = running()
    number = dog.call_begun("reading", 1)
    assert dog.in_flight == 1
    dog.call_forgotten(number)
    dog.call_forgotten(number)
    assert (dog.in_flight, dog.health) == (0, Health.HEALTHY)


@pytest.mark.parametrize(
    "wrong",
    [
        {"stale_s": 0},
        {"stale_s": 10, "hopeless_s": 10},
        {"rebuilds": -1},
        {"most_hung_threads": -1},
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, float]):
    with pytest.raises(ValueError, match="want"):
        Limits(**wrong)  # type: ignore[arg-type]


STEPS = st.lists(
    st.tuples(st.sampled_from([*Ended, "tick", "head", "connected", "ended"]), st.integers(0, 60)),
    max_size=200,
)


@given(STEPS)
def test_whatever_happens_a_chain_without_progress_ends_in_time(steps):
    """From any history: silence for `hopeless_s` ends in EXIT, and FAILED is never left."""
    dog, now = Watchdog(LIMITS, 0), 0
    failed = False
    for what, passed in steps:
        now += passed
        if isinstance(what, Ended):
            ends(dog, what, now, now)
        elif what == "tick":
            dog.tick(now)
        elif what == "head":
            dog.head_seen(dog.head + 1, now)
        elif what == "connected":
            dog.connected(now)
        else:
            dog.thread_ended()
        assert not failed or dog.health is Health.FAILED
        failed = dog.health is Health.FAILED
        assert dog.hung_threads <= LIMITS.most_hung_threads + 1
        assert dog.in_flight == 0
    assert dog.tick(now + LIMITS.hopeless_s) is Action.EXIT
