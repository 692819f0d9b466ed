"""What events make of the network."""

from __future__ import annotations

from typing import Any

import pytest

from validator_node.testnet.manifest import Manifest, ManifestError
from validator_node.testnet.timeline import (
    OPEN,
    Condition,
    World,
    check_timeline,
    quorum_since,
    steps_of,
    worlds_of,
)


def manifest(*events: dict[str, Any], **values: Any) -> Manifest:
    return Manifest(**{"stakes": (100,), "event": events, **values})


def world_after(trial: Manifest, seconds: float) -> World:
    world = World.at_start(trial)
    for step in steps_of(trial):
        if step.at <= seconds:
            world.apply(step)
    return world


def test_an_event_with_a_length_has_two_steps_and_ends_come_first() -> None:
    steps = steps_of(
        manifest(
            {"at": 5, "kind": "kill", "node": 1},
            {"at": 2, "kind": "pause", "node": 1, "for": 3},
        )
    )
    assert [(step.at, step.event.kind, step.begins) for step in steps] == [
        (2, "pause", True),
        (5, "pause", False),
        (5, "kill", True),
    ]
    assert [str(step) for step in steps][1] == "pause ends node 1"


def test_a_partition_divides_and_the_unnamed_make_a_side() -> None:
    cut = {"at": 1, "kind": "partition", "groups": ((0,), (1, 2)), "for": 5}
    trial = manifest(cut, validators=5)
    world = world_after(trial, 1)
    assert set(world.sides()) == {frozenset({0}), frozenset({1, 2}), frozenset({3, 4})}
    assert world.condition(0, 3) == Condition("hole")
    assert world.condition(3, 4) == OPEN
    assert not world.has_quorum()
    assert world_after(trial, 6).has_quorum()


def test_cuts_and_slow_links_add_up_and_heal_ends_them() -> None:
    trial = manifest(
        {"at": 1, "kind": "disconnect", "node": 3},
        {"at": 2, "kind": "slow_link", "node": 0, "delay_ms": 50},
        {"at": 3, "kind": "slow_link", "pair": (0, 1), "delay_ms": 20, "rate": 1000},
        {"at": 4, "kind": "heal"},
    )
    world = world_after(trial, 3)
    assert world.condition(0, 3) == Condition("cut")
    assert world.condition(0, 1) == Condition("open", 50, 1000)
    assert world.condition(0, 2) == Condition("open", 50, 0)
    assert world.condition(1, 2) == OPEN
    assert set(world.sides()) == {frozenset({0, 1, 2}), frozenset({3})}
    assert set(world_after(trial, 4).conditions().values()) == {OPEN}


@pytest.mark.parametrize(
    "event",
    [
        {"kind": "kill", "for": 4},
        {"kind": "pause", "for": 4},
        {"kind": "clock_skew", "ms": 900, "for": 4},
        {"kind": "disk_full", "for": 4},
        {"kind": "disconnect", "for": 4},
    ],
)
def test_an_impaired_validator_does_not_count_until_it_is_over(event: dict[str, Any]) -> None:
    trial = manifest(
        {"at": 2, "node": 3, **event},
        {"at": 1, "kind": "leave", "node": 2},
        stakes=(400, 400, 100, 400),
    )
    assert world_after(trial, 1).has_quorum()
    assert not world_after(trial, 5).has_quorum()
    assert world_after(trial, 6).has_quorum()
    assert quorum_since(trial) == 6


def test_a_wiped_validator_runs_and_never_counts_again() -> None:
    trial = manifest({"at": 2, "node": 3, "kind": "restart", "wipe": True})
    world = world_after(trial, 9)
    assert 3 in world.running
    assert world.counting() == {0, 1, 2}


def test_who_joins_later_is_away_before() -> None:
    trial = manifest({"at": 2, "node": 4, "kind": "join"}, observers=1)
    assert [4 in world.running for _, world in worlds_of(trial)] == [False, True]


def test_two_thirds_exactly_is_no_quorum() -> None:
    world = World.at_start(manifest(validators=3))
    assert not world.is_quorum(frozenset({0, 1}))
    assert world.is_quorum(frozenset({0, 1, 2}))


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (
            ({"at": 1, "kind": "pause", "node": 0, "for": 9}, {"at": 2, "kind": "kill", "node": 0}),
            "node 0 is paused",
        ),
        (
            ({"at": 1, "kind": "leave", "node": 0}, {"at": 2, "kind": "restart", "node": 0}),
            "node 0 has left for good",
        ),
        (
            ({"at": 1, "kind": "kill", "node": 0}, {"at": 2, "kind": "join", "node": 0}),
            "node 0 has not joined yet",
        ),
        (
            ({"at": 1, "kind": "join", "node": 0}, {"at": 1, "kind": "join", "node": 1}),
            "without the validators that join later",
        ),
    ],
)
def test_steps_that_make_no_sense_are_refused(events: tuple[Any, ...], expected: str) -> None:
    with pytest.raises(ManifestError, match=expected):
        check_timeline(manifest(*events))
