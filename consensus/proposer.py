"""Who leads which view: a smooth weighted round robin.

Rule 6: the primary of view v is `schedule[v % len(schedule)]` for the whole view. In every step
each validator's priority grows by its weight, the highest priority leads (the lower index on a tie)
and pays the total. Over a full period everybody leads exactly in proportion to its weight, spread
evenly (the algorithm is nginx's; the known answer is CometBFT's 99 entries for the weights 1000,
300, 330).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

MAX_SCHEDULE = 1024


def proposer_schedule(weights: Sequence[int]) -> tuple[int, ...]:
    """Return the primaries of the first views, as indices into `weights`.

    Its length is the smaller of the schedule's period (sum of weights / gcd) and `MAX_SCHEDULE`.
    """
    total = sum(weights)
    period = total // gcd(*weights)
    priorities = [0] * len(weights)
    schedule = []
    for _ in range(min(period, MAX_SCHEDULE)):
        for index, weight in enumerate(weights):
            priorities[index] += weight
        leader = max(range(len(weights)), key=lambda index: (priorities[index], -index))
        priorities[leader] -= total
        schedule.append(leader)
    return tuple(schedule)
