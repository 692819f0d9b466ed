"""Fitting weights to what the chain accepts: its largest share and its fewest entries. Exact.

The chain refuses a vector whose largest entry has more than `max_weight_limit` / 65535 of the sum
(MaxWeightExceeded) or that has fewer than `min_allowed_weights` entries (WeightVecLengthIsLow).

Rules:
1. Too large a share is cut. With the weights w and the limit L the cap is the largest c with

       65535 * c <= L * sum(min(w, c))

   and each weight becomes min(w, c). With k weights at the cap and R the sum of the others it is
   c = L * R / (65535 - k * L). If even equal weights are too large (n * L < 65535, too few miners
   earned anything) there is no such c but 0: there is no vector, and the reason is named.
2. Then `normal_form`. Its rounding may take so much from the others that the largest is above the
   limit again; then the others are rounded up, which can only lower the largest share.
3. Missing entries are filled with weight 1, the least there is, for registered uids without a
   weight, lowest first. They have not earned it: who they are is said in the result. (Zeros would
   not do: the chain's clients leave them out.) All padding together has less than
   `min_allowed_weights` / 65535 of the largest weight.

By hand: weights {1: 8, 2: 1, 3: 1}, L = 26214, which is 0.4. With k = 1 the cap is
26214 * 2 / (65535 - 26214) = 4/3, and 4/3 of 10/3 is 0.4. In normal form 3/4 * 65535 = 49151.25
is rounded to 49151, and 65535 / (65535 + 2 * 49151) = 0.400001 is too much. Rounded up the vector
is ((1, 65535), (2, 49152), (3, 49152)), of which the largest has 0.399996.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal

from chain.interface import MAX_WEIGHT, WeightVector
from chain.rules import is_within_limit
from chain.weights import normal_form


@dataclass(frozen=True, slots=True)
class Fitted:
    """A vector that the chain accepts, or why there is none."""

    vector: WeightVector = ()
    padded: tuple[int, ...] = ()
    """Uids of `vector` that are there only for its length, ascending."""
    reason: Literal["", "no_weights", "max_weight"] = ""


def fit(
    weights: Mapping[int, Fraction], uids: Iterable[int], *, max_limit: int, min_length: int
) -> Fitted:
    """Return the vector for `weights`, by uid, in normal form and within the chain's limits.

    `uids` are all registered ones. `max_limit` is a share in 65535ths, 65535 for no bound;
    `min_length` counts entries, at most as many as there are uids.
    """
    earned = {uid: weight for uid, weight in weights.items() if weight > 0}
    if not earned:
        return Fitted(reason="no_weights")
    if max_limit < MAX_WEIGHT:
        cap = weight_cap(list(earned.values()), max_limit)
        if cap == 0:
            return Fitted(reason="max_weight")
        earned = {uid: min(weight, cap) for uid, weight in earned.items()}
    vector = normal_form(earned)
    if not is_within_limit([value for _, value in vector], max_limit):
        vector = _rounded_up(earned)
    return _padded(vector, sorted(uids), min_length)


def weight_cap(weights: list[Fraction], limit: int) -> Fraction:
    """Return the largest weight that one may have (rule 1); 0 if there is none.

    Raises `ValueError` for no weights.
    """
    if not weights:
        raise ValueError("there are no weights")
    if len(weights) * limit < MAX_WEIGHT:
        return Fraction(0)
    descending = sorted(weights, reverse=True)
    rest = sum(descending, Fraction(0))
    cap, above = descending[0], 0
    while MAX_WEIGHT * cap > limit * (above * cap + rest):
        rest -= descending[above]
        above += 1  # so many are at the cap; it is at least the next one, or that one joins them
        cap = max(limit * rest / (MAX_WEIGHT - above * limit), descending[above])
    return cap


def _rounded_up(weights: Mapping[int, Fraction]) -> WeightVector:
    largest = max(weights.values())
    return tuple((uid, ceil(weights[uid] * MAX_WEIGHT / largest)) for uid in sorted(weights))


def _padded(vector: WeightVector, uids: list[int], min_length: int) -> Fitted:
    known = {uid for uid, _ in vector}
    missing = max(0, min(min_length, len(uids)) - len(vector))
    padded = tuple([uid for uid in uids if uid not in known][:missing])
    return Fitted(tuple(sorted([*vector, *((uid, 1) for uid in padded)])), padded)
