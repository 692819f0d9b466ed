"""From scores to the vector a validator submits. Pure and exact: no floating point anywhere.

Rules:
1. Weights are rationals until `normal_form`, the only rounding of this node. Two validators with
   the same scores therefore certify the same bytes, in whatever order the scores arrived.
2. The certified vector is in the chain's normal form, so that the chain's own rounding
   (`chain_upscale`) leaves it as it is and what is read back equals it.
3. Nothing is invented: no scores means an empty vector, never a weight for uid 0.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

from chain.interface import MAX_UID, MAX_WEIGHT, WeightVector

if TYPE_CHECKING:
    from collections.abc import Mapping

_FRACTION_BITS = 32  # of the chain's I32F32
_HALF = 1 << (_FRACTION_BITS - 1)
_UPSCALE_THRESHOLD = 32768


def aggregate(
    best: Mapping[str, Mapping[int, int]], emission: Mapping[str, int]
) -> dict[int, Fraction]:
    """Return each uid's weight, ascending by uid, those of zero left out.

    `best` gives, by challenge, each uid's score; `emission` gives every registered challenge's
    share in arbitrary equal units.

        weight(uid) = sum over challenges c of
            emission(c) / sum of all emissions  *  score(c, uid) / sum of scores of c

    A challenge whose scores sum to zero contributes nothing and its share goes to nobody, so the
    weights may sum to less than 1. A challenge in `best` that is not in `emission` is not
    registered (any more) and contributes nothing.

    By hand: emissions {a: 3, b: 1}; scores a {1: 2, 2: 1}, b {2: 5}. Shares are 3/4 and 1/4, so
    weight(1) = 3/4 * 2/3 = 1/2 and weight(2) = 3/4 * 1/3 + 1/4 * 5/5 = 1/2.

    Raises `ValueError` for a negative emission or score.
    """
    _refuse_negative(best, emission)
    emission_sum = sum(emission.values())
    weights: dict[int, Fraction] = {}
    for challenge, units in emission.items():
        scores = best.get(challenge, {})
        score_sum = sum(scores.values())
        if units == 0 or score_sum == 0:
            continue
        for uid, score in scores.items():
            part = Fraction(units * score, emission_sum * score_sum)
            weights[uid] = weights.get(uid, Fraction(0)) + part
    return {uid: weights[uid] for uid in sorted(weights) if weights[uid] > 0}


def _refuse_negative(best: Mapping[str, Mapping[int, int]], emission: Mapping[str, int]) -> None:
    for challenge, units in emission.items():
        if units < 0:
            raise ValueError(f"challenge {challenge!r}: emission {units}, want 0 or more")
    for challenge, scores in best.items():
        for uid, score in scores.items():
            if score < 0:
                raise ValueError(
                    f"challenge {challenge!r}, uid {uid}: score {score}, want 0 or more"
                )


def normal_form(weights: Mapping[int, Fraction]) -> WeightVector:
    """Return the vector the chain stores unchanged: the largest weight becomes 65535.

        value(uid) = round half to even (weight(uid) * 65535 / largest weight)

    Values of zero are dropped and uids ascend. Empty if every weight is zero.

    By hand: {7: 1/2, 3: 1/3, 9: 1/6} has the largest 1/2, so 65535 * 2/3 = 43690 and
    65535 * 1/3 = 21845: ((3, 43690), (7, 65535), (9, 21845)).

    Raises `ValueError` for a negative weight or a uid that is no u16.
    """
    for uid, weight in weights.items():
        if not 0 <= uid <= MAX_UID or weight < 0:
            raise ValueError(f"uid {uid}, weight {weight}: want a u16 and a weight >= 0")
    largest = max(weights.values(), default=Fraction(0))
    if largest == 0:
        return ()
    values = ((uid, round(weights[uid] * MAX_WEIGHT / largest)) for uid in sorted(weights))
    return tuple((uid, value) for uid, value in values if value > 0)


def chain_upscale(vector: WeightVector) -> WeightVector:
    """Return what the chain stores for a submitted vector: same uids, same order, largest 65535.

    Subtensor's `vec_u16_max_upscale_to_u16` (pallets/subtensor/src/epoch/math.rs) computes in
    I32F32, whose division truncates at 32 fractional bits and whose `round` takes halves away
    from zero. With m the largest value:
        m = 0          unchanged
        m > 32768      round(e * trunc32(65535 / m)), since e * 65535 would overflow 31 bits
        otherwise      round(trunc32(e * 65535 / m))
    Zeros stay. With m = 65535 the factor is exactly 1 and nothing changes.

    By hand, m = 32768: 21845 * 65535 / 32768 = 43689.33 and 10922 * 65535 / 32768 = 21843.67, so
    32768/21845/10922 is stored as 65535/43689/21844.

    Raises `ValueError` for a value that is no u16.
    """
    for uid, value in vector:
        if not 0 <= value <= MAX_WEIGHT:
            raise ValueError(f"uid {uid}: weight {value} is no u16")
    largest = max((value for _, value in vector), default=0)
    if largest == 0:
        return vector
    return tuple((uid, _upscale(value, largest)) for uid, value in vector)


def _upscale(value: int, largest: int) -> int:
    if largest > _UPSCALE_THRESHOLD:
        fixed = value * ((MAX_WEIGHT << _FRACTION_BITS) // largest)
    else:
        fixed = (value * MAX_WEIGHT << _FRACTION_BITS) // largest
    return (fixed + _HALF) >> _FRACTION_BITS


def is_normal_form(vector: WeightVector) -> bool:
    """Return whether `vector` is something `normal_form` may return.

    That is () or: uids ascend without repetition, each value is in 1..65535, the largest 65535.
    """
    uids = [uid for uid, _ in vector]
    values = [value for _, value in vector]
    return not vector or (
        all(0 <= uid <= MAX_UID for uid in uids)
        and all(left < right for left, right in pairwise(uids))
        and min(values) > 0
        and max(values) == MAX_WEIGHT
    )
