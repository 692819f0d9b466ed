"""The rule that says `held` or `fell`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.attacks.plays import ATTACKS
from tests.attacks.seen import Fate, Seen, faults, worse_of

SETTLED = Fate(1.0, 100, 2.0, "ended")
CALM = Seen(
    name="calm",
    began_s=0.0,
    ended_s=10.0,
    slots=100,
    epochs=1,
    resident_mb=100.0,
    fates=(SETTLED,) * 20,
    expected=80,
    delivered=80,
    asked=30,
    answered=30,
)
SLOW = Fate(1.0, 100, 9.0, "ended")
LOST = Fate(1.0, 100, None, "unknown")
REFUSED = Fate(1.0, 100, 2.0, "refused", "busy")


def test_the_same_as_in_calm_holds() -> None:
    assert faults(CALM, CALM) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"slots": 40}, "4.0 slots/s, calm 10.0"),
        ({"fates": (*CALM.fates[1:], LOST)}, "settled 19 of 20: not {'unknown': 1}"),
        ({"fates": (*CALM.fates[1:], REFUSED)}, "settled 19 of 20: not {'refused busy': 1}"),
        ({"fates": ()}, "nothing honest was published"),
        ({"fates": (SLOW,) * 20}, "median delay 8.0 s, calm 1.0 s"),
        ({"delivered": 79}, "honest subscribers received 79 of 80"),
        ({"answered": 26}, "answered 26 of 30 honest requests"),
        ({"bans": ("peer",)}, "honest peers banned: peer"),
        ({"deaths": ("validator 1 ended with code 1",)}, "validator 1 ended with code 1"),
        ({"resident_mb": 220.0}, "220 MB, calm 100 MB"),
    ],
)
def test_what_the_honest_miss_falls(change: dict, said: str) -> None:
    assert faults(CALM, replace(CALM, **change)) == [said]


def test_a_slow_machine_is_no_fault() -> None:
    slow = replace(CALM, slots=10, fates=(SLOW,) * 5)
    assert faults(slow, replace(slow, slots=6)) == []


def test_an_attack_is_measured_by_the_worse_calm_phase() -> None:
    busy = replace(CALM, slots=50)
    assert worse_of(CALM, busy) == worse_of(busy, CALM) == busy
    assert worse_of(CALM) == CALM


def test_what_an_attack_leaves_behind_is_no_excuse() -> None:
    deaf = replace(CALM, slots=50, delivered=40)
    assert worse_of(CALM, deaf).delivered == 80
    assert faults(worse_of(deaf, CALM), replace(CALM, delivered=40)) == []


def test_each_attack_says_what_it_is() -> None:
    for name, attack in ATTACKS.items():
        assert attack.name == name
        assert attack.does
        assert attack.before
        assert len(f"{name:17}{attack.does}") <= 100
