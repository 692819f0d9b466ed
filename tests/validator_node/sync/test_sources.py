"""Whom to ask first, how long to wait, and when to leave somebody alone."""

from __future__ import annotations

import pytest

from validator_node.network.standing import Standing
from validator_node.sync.sources import (
    FORGET_S,
    MAX_PATIENCE_S,
    MAX_REMEMBERED,
    PARDONS,
    PATIENCE_S,
    REST_S,
    Sources,
)

STRANGERS = [f"stranger {i}" for i in range(20)]


class Place(Sources):
    def __init__(self, **standing: Standing) -> None:
        self.now = 0.0
        super().__init__(lambda: self.now, lambda peer: standing.get(peer, Standing.STRANGER))


def test_each_failure_in_a_row_doubles_the_rest_and_the_patience():
    sources = Place()
    rests, patience = [], [sources.patience_s("a")]
    for _ in range(3):
        sources.failed("a")
        began = sources.now
        while sources.is_resting("a"):
            sources.now += REST_S / 2
        rests.append(sources.now - began)
        patience.append(sources.patience_s("a"))
    assert rests == [REST_S, 2 * REST_S, 4 * REST_S]
    assert patience == [PATIENCE_S, 2 * PATIENCE_S, 4 * PATIENCE_S, 8 * PATIENCE_S]
    sources.failed("a")
    assert sources.patience_s("a") == MAX_PATIENCE_S
    sources.brought("a")
    assert (sources.strikes("a"), sources.is_resting("a")) == (0, False)


def test_a_failure_is_forgotten_in_time():
    sources = Place()
    sources.failed("a")
    sources.now += FORGET_S + 1
    assert sources.strikes("a") == 0
    sources.failed("a")
    assert sources.strikes("a") == 1


@pytest.mark.parametrize("standing", [Standing.MEMBER, Standing.CONFIGURED])
def test_no_number_of_strangers_takes_the_place_of_one_who_matters(standing):
    sources = Place(known=standing)
    for _ in range(PARDONS):
        assert sources.ordered([*STRANGERS, "known"])[0] == "known"
        sources.failed("known")
    assert sources.ordered([*STRANGERS, "known"])[0] == "known"
    sources.failed("known")
    assert sources.ordered([*STRANGERS, "known"])[-1] == "known"


def test_strangers_that_failed_make_room_and_are_asked_again_when_nobody_else_is_there():
    sources = Place()
    for stranger in STRANGERS:
        sources.failed(stranger)
    assert sources.chosen([*STRANGERS, "honest"], 8) == ["honest"]
    assert len(sources.chosen(STRANGERS, 8)) == 8


def test_equals_are_asked_in_an_order_that_changes():
    sources = Place()
    assert len({tuple(sources.ordered(STRANGERS)) for _ in range(20)}) > 1


def test_what_is_remembered_is_bounded():
    sources = Place()
    for number in range(MAX_REMEMBERED + 1):
        sources.failed(str(number))
    assert sources.strikes("0") == 0
    assert sources.strikes("1") == 1
