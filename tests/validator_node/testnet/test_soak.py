"""Slopes and bounds of a soak, on forged samples."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_node.testnet.soak import BOUNDS, Soak, Trend, slope

numbers = st.floats(min_value=-1000, max_value=1000)


@given(numbers, numbers, st.lists(st.integers(0, 10_000), min_size=2, unique=True))
def test_the_slope_of_a_line_is_its_own(rise: float, start: float, times: list[int]) -> None:
    points = [(float(at), start + rise * at) for at in times]
    assert slope(points) == pytest.approx(rise, abs=1e-3)


def test_one_point_has_no_slope() -> None:
    assert slope([(3.0, 4.0)]) == 0.0


def soaked(values: list[float], quantity: str = "rss_mb") -> Soak:
    return Soak([(100.0 + 5 * i, 2, quantity, value) for i, value in enumerate(values)])


def test_only_the_second_half_counts() -> None:
    warm_up_then_flat = [100.0 + 3 * min(i, 50) for i in range(101)]
    trend = soaked(warm_up_then_flat).trends()[0]
    assert trend.slope_per_h == pytest.approx(0.0, abs=1e-9)
    assert trend.maximum == 250.0
    assert trend.span_s == 250.0
    assert soaked(warm_up_then_flat).violations() == []


def test_what_keeps_growing_is_found_with_its_node() -> None:
    found = soaked([100.0 + 0.3 * i for i in range(361)]).violations()
    assert [(entry.invariant, entry.nodes) for entry in found] == [("stays_flat", (2,))]
    assert "rss_mb grew by 216.0 an hour over 900 s" in str(found[0])


def test_a_steep_slope_over_moments_is_noise_and_a_maximum_is_not() -> None:
    assert Trend(0, "rss_mb", 4000.0, 120.0, 5.0).excess == ""
    assert Trend(0, "threads", 0.0, 65.0, 5.0).excess == "reached 65, at most 64 was expected"


def test_every_quantity_has_a_bound_that_can_be_broken() -> None:
    for quantity, bound in BOUNDS.items():
        assert Trend(0, quantity, 2 * bound.slope_per_h, 1.0, 86_400.0).excess
        assert not Trend(0, quantity, bound.slope_per_h, bound.maximum, 86_400.0).excess


def test_the_samples_are_written_from_time_zero(tmp_path: Path) -> None:
    soaked([1.0, 2.0]).write(tmp_path / "soak.csv")
    rows = list(csv.reader((tmp_path / "soak.csv").read_text().splitlines()))
    assert rows[1:] == [["0.0", "2", "rss_mb", "1.0"], ["5.0", "2", "rss_mb", "2.0"]]
