"""The turns by themselves: ranks, parking, yielding, bytes, and the bound that slots.py states."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from validator_node.blobs.accounts import HALF_LIFE_S, STEP_S, SlotLimits
from validator_node.blobs.slots import FairSlots

MIB = 1024 * 1024
LIMITS = SlotLimits(slots=2, large_bytes=4 * MIB, kept_bytes=MIB)


def begun(slots: FairSlots, now: float) -> list[str]:
    return [str(key) for key, _ in slots.decide(now).begin]


def slots_of(*owners: str, size: int = 1000, limits: SlotLimits = LIMITS) -> FairSlots:
    """Tasks are named by their owner and a number: `a1` is a's."""
    slots = FairSlots(limits)
    for name in owners:
        slots.add(name, name[0], size, 0.0)
    return slots


def test_owners_take_turns_one_task_each() -> None:
    slots = slots_of("a1", "a2", "a3", "b1", "c1")
    assert begun(slots, 0) == ["a1", "b1"]
    slots.on_delivered("a1", 0.1)
    assert begun(slots, 0.1) == ["c1"]  # a has had a turn
    slots.on_delivered("b1", 0.2)
    assert begun(slots, 0.2) == ["a2"]
    assert len(slots) == 3


def test_what_stalls_is_parked_and_its_owner_waits_ever_longer() -> None:
    slots = slots_of("a1", "a2")
    now, waits, patience = 0.0, [], []
    for _ in range(6):
        decision = slots.decide(now)
        while not decision.begin:
            now += 0.5
            decision = slots.decide(now)
        [(key, patience_s)] = decision.begin
        patience.append(patience_s)
        now += patience_s
        stopped = slots.decide(now)
        assert stopped.stop == [key]
        assert slots.in_hand == 0
        at = now
        while not slots.decide(now).begin:
            now += 0.5
        waits.append(now - at)
        slots.on_ended(next(iter(slots._in_hand)), now)  # nobody has it: no stall
        now += LIMITS.retry_s
    assert patience == [4, 8, 16, 16, 16, 16]
    assert waits == [2, 4, 8, 16, 16, 16]


def test_a_delivery_forgives_the_stalls_and_time_the_debt() -> None:
    slots = slots_of("a1", "a2")
    assert begun(slots, 0) == ["a1"]
    assert slots.decide(4).stop == ["a1"]
    assert slots.debt_steps("a", 4) == 2
    assert begun(slots, 6) == ["a2"]
    slots.on_delivered("a2", 6)
    assert slots.decide(6).begin == [("a1", 4.0)]
    slots.on_delivered("a1", 6)
    assert slots.debt_steps("a", 4 + HALF_LIFE_S / 2) == 1
    assert slots.debt_steps("a", 6 + HALF_LIFE_S) == 0
    assert slots.debt_steps("nobody", 0) == 0


def test_who_is_in_hand_gives_way_after_its_time_and_keeps_what_came() -> None:
    slots = slots_of("a1", "b1", size=2 * MIB)
    assert begun(slots, 0) == ["a1", "b1"]
    assert slots.on_bytes("a1", 64_000, 2 * MIB, 1)
    slots.add("c1", "c", 1000, 1)
    assert slots.decide(3.9).stop == []
    decision = slots.decide(4)  # b has brought nothing at all
    assert (decision.stop, decision.begin) == (["b1"], [("c1", 4.0)])
    slots.add("d1", "d", 1000, 4)
    slots.add("e1", "e", 1000, 4)
    assert slots.on_bytes("a1", 100_000, 2 * MIB, 7)
    assert slots.decide(7.9).stop == []
    decision = slots.decide(8)  # c has not brought anything either
    assert decision.stop == ["c1", "a1"]
    assert decision.begin == [("d1", 4.0), ("e1", 4.0)]
    assert slots.kept("a1") == 100_000


def test_good_pace_costs_nothing_and_gives_way_to_who_waits_all_the_same() -> None:
    slots = slots_of("a1", size=2 * MIB, limits=SlotLimits(slots=1, quantum_s=2))
    slots.decide(0)
    for second in (1, 2):
        assert slots.on_bytes("a1", 600_000 * second, 2 * MIB, second)
    assert slots.debt_steps("a", 2) == 0
    slots.add("b1", "b", 1000, 2)
    decision = slots.decide(2)
    assert (decision.stop, decision.begin) == (["a1"], [("b1", 4.0)])
    slots.on_delivered("b1", 2.5)
    assert begun(slots, 2.5) == ["a1"]


def test_bytes_that_were_wrong_are_worth_nothing() -> None:
    slots = slots_of("a1", size=4 * MIB)
    slots.decide(0)
    assert slots.on_bytes("a1", 3 * MIB, 4 * MIB, 6)
    assert slots.debt_steps("a", 6) == 0
    assert slots.on_bytes("a1", 0, 4 * MIB, 6)
    assert slots.debt_steps("a", 6) >= int(6 / STEP_S)


def test_long_ones_go_on_only_as_far_as_their_bytes_fit() -> None:
    limits = SlotLimits(slots=4, large_bytes=4 * MIB)
    slots = slots_of("a1", "b1", "c1", size=2 * MIB, limits=limits)
    slots.decide(0)
    assert slots.on_bytes("a1", 64_000, 2 * MIB, 0.1)
    assert slots.on_bytes("b1", 64_000, 2 * MIB, 0.1)
    assert not slots.on_bytes("c1", 64_000, 2 * MIB, 0.1)
    assert (slots.in_hand, slots.large_bytes, slots.kept_bytes) == (2, 4 * MIB, 64_000)
    slots.add("d1", "d", 3 * MIB, 0.2)
    assert begun(slots, 0.2) == ["d1"]
    slots.on_delivered("a1", 1)
    assert not slots.on_bytes("d1", 64_000, 2 * MIB, 1)  # c waits for the same bytes, and longer
    assert begun(slots, 1) == ["c1"]
    slots.add("e1", "e", 1000, 1)
    assert begun(slots, 1) == ["e1"]  # a short one needs no bytes


def test_what_is_kept_of_parked_ones_is_bounded() -> None:
    limits = SlotLimits(slots=3, large_bytes=2 * MIB, kept_bytes=150_000)
    slots = slots_of("a1", "b1", "c1", size=2 * MIB, limits=limits)
    slots.decide(0)
    assert slots.on_bytes("a1", 64_000, 2 * MIB, 0.1)
    for name in ("b1", "c1"):
        assert not slots.on_bytes(name, 100_000, 2 * MIB, 0.1)
    assert slots.decide(0.2).forget == ["c1"]
    assert (slots.kept("b1"), slots.kept("c1")) == (100_000, 0)


def test_urgent_ones_go_before_others_of_their_owner() -> None:
    slots = slots_of("a1", "a2")
    slots.add("a3", "a", 1000, 0, urgent=True)
    assert begun(slots, 0) == ["a3"]
    slots.remove("a3", 0)
    slots.remove("a3", 0)
    slots.add("a2", "a", 1000, 0, urgent=True)
    assert begun(slots, 0) == ["a2"]
    assert len(slots) == 2


ACTS = st.sampled_from(["silent", "begins", "drips", "absent", "fast"])


@settings(max_examples=150, deadline=None)
@given(
    hostile=st.lists(st.lists(ACTS, min_size=1, max_size=4), min_size=1, max_size=40),
    number=st.integers(1, 6),
    arrives=st.integers(0, 200),
    size=st.sampled_from([1000, MIB, 4 * MIB]),
)
def test_an_owner_without_debt_begins_within_the_stated_bound(
    hostile: list[list[str]], number: int, arrives: int, size: int
) -> None:
    """Whatever others do, each quarter of a second, with as many tasks as they like."""
    limits = SlotLimits(slots=number, large_bytes=4 * MIB)
    slots = FairSlots(limits)
    for owner in range(len(hostile)):
        for task in range(8):
            slots.add((owner, task), owner, size, 0.0)
    turns: dict[int, int] = {}
    acts: dict[tuple[int, int], str] = {}
    bound = limits.quantum_s * (1 + len(hostile) // limits.slots)
    tick = 0
    while True:
        now = tick / 4
        if tick == arrives:
            slots.add("honest", "honest", 1000, now)
        for key, act in acts.items():
            play(slots, key, act, size, now)
        decision = slots.decide(now)
        assert slots.in_hand <= limits.slots
        assert slots.large_bytes <= limits.large_bytes
        assert slots.kept_bytes <= limits.kept_bytes
        for key, _ in decision.begin:
            if key == "honest":
                assert now - arrives / 4 <= bound
                return
            assert isinstance(key, tuple)
            owner = key[0]
            habits = hostile[owner]
            acts[key] = habits[turns.get(owner, 0) % len(habits)]
            turns[owner] = turns.get(owner, 0) + 1
        assert now - arrives / 4 <= bound
        tick += 1


def play(slots: FairSlots, key: tuple[int, int], act: str, size: int, now: float) -> None:
    """Let a quarter of a second of a hostile peer's habit happen."""
    if key not in slots._in_hand:
        return
    kept = slots.kept(key)
    if act == "absent":
        slots.on_ended(key, now)
    elif act == "drips" or (act == "begins" and not kept):
        slots.on_bytes(key, min(size - 1, kept + 20_000), size, now)
    elif act == "fast":
        left = size - kept - math.floor(limits_pace(slots) / 4)
        if left > 0:
            slots.on_bytes(key, size - left, size, now)
        else:
            slots.on_delivered(key, now)
            slots.add(key, key[0], size, now)


def limits_pace(slots: FairSlots) -> float:
    return 2 * slots.limits.good_bytes_per_s
