"""Fair shares: of time between challenges, of turns between miners, and never beyond a cap."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.fair_queue import FIRST_COST_MS, MAX_KNOWN_COSTS, Claim, FairQueue

HERE = "a worker"


def served(queue: FairQueue[str], count: int, costs: dict[str, float]) -> list[str]:
    """Pop and finish one after the other."""
    found = []
    for _ in range(count):
        taken = queue.pop(HERE)
        assert taken is not None
        item, challenge = taken
        queue.finish(challenge, HERE, costs.get(challenge, 1.0))
        found.append(item)
    return found


def test_one_challenge_keeps_the_order_of_a_miners_jobs() -> None:
    queue: FairQueue[str] = FairQueue(4)
    for number in range(5):
        queue.push(f"{number}", Claim("a", b"miner"))
    assert served(queue, 5, {}) == ["0", "1", "2", "3", "4"]
    assert queue.pop(HERE) is None
    assert (len(queue), queue.waiting, queue.running) == (0, {}, {})


def test_miners_of_a_challenge_take_turns() -> None:
    queue: FairQueue[str] = FairQueue(4)
    for number in range(100):
        queue.push(f"greedy {number}", Claim("a", b"greedy"))
    queue.push("modest", Claim("a", b"modest"))
    assert served(queue, 2, {}) == ["greedy 0", "modest"]


def test_challenges_share_time_and_not_jobs() -> None:
    queue: FairQueue[str] = FairQueue(1)
    costs = {"short": 1.0, "long": 20.0}
    for name, cost in costs.items():
        for _ in range(200):  # what the queue has learned
            queue.push(name, Claim(name))
            served(queue, 1, {name: cost})
    for _ in range(2_000):
        queue.push("short", Claim("short"))
        queue.push("long", Claim("long"))
    counts = Counter(served(queue, 1_050, costs))
    assert counts["short"] * 1.0 == pytest.approx(counts["long"] * 20.0, rel=0.1)


def test_weights_divide_the_time() -> None:
    queue: FairQueue[str] = FairQueue(1)
    for _ in range(400):
        queue.push("heavy", Claim("heavy", weight=3))
        queue.push("light", Claim("light", weight=1))
    counts = Counter(served(queue, 400, {"heavy": FIRST_COST_MS, "light": FIRST_COST_MS}))
    assert counts["heavy"] == pytest.approx(3 * counts["light"], abs=4)


def test_the_more_urgent_class_goes_first() -> None:
    queue: FairQueue[str] = FairQueue(4)
    queue.push("later", Claim("a"))
    queue.push("now", Claim("b", urgency=1))
    queue.push("last", Claim("a", urgency=-1))
    assert served(queue, 3, {}) == ["now", "later", "last"]


def test_a_challenge_at_its_cap_leaves_the_place_to_others() -> None:
    queue: FairQueue[str] = FairQueue(2)
    for number in range(4):
        queue.push(f"a{number}", Claim("a"))
    queue.push("b", Claim("b"))
    taken = [queue.pop(place) for place in range(3)]
    assert [one[0] for one in taken if one] == ["a0", "b", "a1"]
    assert queue.pop(3) is None
    assert (queue.running, queue.waiting) == ({"a": 2, "b": 1}, {"a": 2})
    queue.finish("a", 0, 1.0)
    assert queue.pop(3) == ("a2", "a")


def test_a_place_takes_no_other_challenge_into_its_line() -> None:
    queue: FairQueue[str] = FairQueue(2)
    queue.push("a0", Claim("a"))
    assert queue.pop(HERE) == ("a0", "a")
    queue.push("b0", Claim("b"))
    queue.push("b1", Claim("b"))
    assert queue.pop(HERE) is None
    assert queue.pop("elsewhere") == ("b0", "b")
    queue.finish("a", HERE, 1.0)
    assert queue.pop(HERE) == ("b1", "b")


def test_a_line_ends_when_another_challenges_turn_has_come() -> None:
    queue: FairQueue[str] = FairQueue(1)
    for name in ("a", "b"):
        for _ in range(100):  # one turn is worth five jobs
            queue.push(name, Claim(name))
            served(queue, 1, {name: 1.0})
    for _ in range(50):
        queue.push("a", Claim("a"))
        queue.push("b", Claim("b"))
    taken = []
    while (found := queue.pop(HERE)) is not None:
        taken.append(found[1])
    assert taken == ["a"] * 5
    for name in taken:
        queue.finish(name, HERE, 1.0)
    assert queue.pop(HERE) == ("b", "b")


def test_what_is_put_back_is_served_first_and_in_its_order() -> None:
    queue: FairQueue[str] = FairQueue(1)
    claims = [Claim("a", b"x"), Claim("a", b"y"), Claim("a", b"x")]
    for number, claim in enumerate(claims):
        queue.push(f"{number}", claim)
    taken = [queue.pop(HERE) for _ in range(3)]
    queue.push("other", Claim("b"))
    assert [one and one[0] for one in taken] == ["0", "1", "2"]
    queue.finish("a", HERE, 1.0)
    for item, claim in (("2", claims[2]), ("1", claims[1])):
        queue.put_back(item, claim, HERE)
    assert (queue.running, len(queue)) == ({}, 3)
    assert served(queue, 3, {}) == ["1", "2", "other"]


def test_a_slow_job_is_remembered_longer_than_the_mean() -> None:
    queue: FairQueue[str] = FairQueue(1)
    for cost in (0.2, 1_000.0, *[0.2] * 30):
        queue.push("a", Claim("a"))
        served(queue, 1, {"a": cost})
    assert queue.cost_ms("a") < 2 < 20 < queue.peak_ms("a")
    for _ in range(60):
        queue.push("a", Claim("a"))
        served(queue, 1, {"a": 0.2})
    assert queue.peak_ms("a") < 2


def test_a_place_may_have_several_jobs_of_a_challenge_at_its_cap() -> None:
    queue: FairQueue[str] = FairQueue(1)
    for number in range(4):
        queue.push(f"{number}", Claim("a"))
    assert [queue.pop(HERE), queue.pop(HERE)] == [("0", "a"), ("1", "a")]
    assert queue.pop("elsewhere") is None
    queue.finish("a", HERE, 1.0)
    assert (queue.pop("elsewhere"), queue.running) == (None, {"a": 1})
    queue.finish("a", HERE, 1.0)
    assert queue.pop("elsewhere") == ("2", "a")


def test_a_cap_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="cap"):
        FairQueue(0)


def test_draining_empties_it() -> None:
    queue: FairQueue[str] = FairQueue(1)
    for name in ("a", "b"):
        queue.push(name, Claim(name, urgency=ord(name)))
    assert sorted(queue.drain()) == ["a", "b"]
    assert (len(queue), queue.pop(HERE)) == (0, None)


def test_a_job_of_a_minute_is_found_without_walking_a_minute() -> None:
    queue: FairQueue[str] = FairQueue(1)
    for name in ("a", "b"):
        for _ in range(100):
            queue.push(name, Claim(name))
            served(queue, 1, {name: 60_000.0})
    queue.push("a", Claim("a"))
    queue.push("b", Claim("b"))
    assert sorted(served(queue, 2, {})) == ["a", "b"]


def test_expected_costs_are_bounded_in_number() -> None:
    queue: FairQueue[int] = FairQueue(1)
    for number in range(MAX_KNOWN_COSTS + 10):
        queue.push(number, Claim(str(number)))
        assert queue.pop(HERE) is not None
        queue.finish(str(number), HERE, 1.0)
    assert len(queue._costs) == MAX_KNOWN_COSTS


claims = st.builds(
    Claim,
    challenge=st.sampled_from("abc"),
    miner=st.sampled_from([b"x", b"y"]),
    urgency=st.integers(0, 1),
    weight=st.integers(1, 5),
)


@given(
    cap=st.integers(1, 3),
    steps=st.lists(st.one_of(claims, st.integers(0, 3), st.just("finish")), max_size=60),
    costs=st.lists(st.floats(0, 1e6), min_size=60, max_size=60),
)
def test_nothing_is_lost_twice_served_or_beyond_the_cap(
    cap: int, steps: list[Claim | int | str], costs: list[float]
) -> None:
    queue: FairQueue[int] = FairQueue(cap)
    running: list[tuple[int, str, int]] = []
    seen: set[int] = set()
    pushed = 0
    for step, cost in zip(steps, costs, strict=False):
        if isinstance(step, Claim):
            queue.push(pushed, step)
            pushed += 1
        elif step == "finish" and running:
            queue.finish(*running.pop()[1:], cost)
        elif isinstance(step, int) and (taken := queue.pop(step)) is not None:
            running.append((*taken, step))
            assert taken[0] not in seen
            seen.add(taken[0])
        counts = Counter(name for name, _ in {one[1:] for one in running})
        assert queue.running == dict(counts)
        assert max(counts.values(), default=0) <= cap
        assert len(queue) == pushed - len(seen) == sum(queue.waiting.values())
    for _, name, place in running:
        queue.finish(name, place)
    while (taken := queue.pop(HERE)) is not None:
        queue.finish(taken[1], HERE)
        seen.add(taken[0])
    assert seen == set(range(pushed))
