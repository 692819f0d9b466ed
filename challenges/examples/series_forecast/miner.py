"""A miner of the series forecast challenge: least squares, with more terms and data by skill.

Skill 0 fits one lag, 1 two (as Yule did in 1927), 2 the nine of a solar cycle's memory on a third
to half of the years, 3 adds lags of one cycle and more and takes nearly all years. An attempt
chooses the years it trains on and how strongly it shrinks the coefficients.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from challenges.examples.series_forecast.model import encode, fit

SERIES_PATH = Path(__file__).parent / "data" / "series.csv"


@dataclass(frozen=True, slots=True)
class Method:
    """How a miner of one skill works: its lags and the years (fewest, most) it trains on."""

    lags: tuple[int, ...]
    fewest: int
    most: int


METHODS = (
    Method((1,), 60, 150),
    Method((1, 2), 60, 150),
    Method(tuple(range(1, 10)), 100, 150),
    Method((1, 2, 3, 9, 10, 11, 12, 22, 33, 52, 66), 295, 309),
)
RIDGE_STEP = 1e-9  # times a 20-bit number: up to about a thousandth


@cache
def _series() -> list[float]:
    rows = SERIES_PATH.read_text(encoding="ascii").split()[1:]
    return [float(row.partition(",")[2]) for row in rows]


def _numbers(skill: int, attempt: int) -> tuple[int, int, int]:
    """Return three numbers of 20 bits that depend on nothing but the arguments."""
    digest = hashlib.sha256(f"series_forecast {skill} {attempt}".encode()).digest()
    a, b, c = (int.from_bytes(digest[i : i + 4], "big") >> 12 for i in (0, 4, 8))
    return a, b, c


def payload(skill: int, attempt: int) -> bytes:
    """Make the submission of a miner of `skill` 0..3 at its `attempt`; at most 256 bytes."""
    method = METHODS[skill]
    values = _series()
    a, b, c = _numbers(skill, attempt)
    years = method.fewest + a % (method.most - method.fewest + 1)
    start = b % (len(values) - years + 1)
    intercept, coefficients = fit(values[start : start + years], method.lags, c * RIDGE_STEP)
    return encode(intercept, method.lags, coefficients)
