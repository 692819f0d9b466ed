"""Why a uid has its weight, from what is committed alone. Pure; for people.

It answers for the newest closed epoch: the state's neurons are those of the metagraph that ended
it. The figures are those that `epoch_weights` computed from, so anybody can work them out again
(docs/weights.md).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

from protocol.codec import decode
from protocol.records.genesis import Neuron
from protocol.records.result import Replicated, Result
from protocol.records.weights import ChallengeShare, EpochWeights, Masked, weights_key
from protocol.view import View
from registry import keys
from registry.access import current_epoch, read
from registry.submissions import best_scores


@dataclass(frozen=True, slots=True)
class Part:
    """What one challenge contributes to a miner's weight."""

    challenge_id: str
    mechanism: int
    emission: int
    emission_sum: int
    """Of all challenges of the mechanism."""
    score: int
    score_sum: int
    """Of all miners that count in the challenge."""
    submission_id: bytes | None
    """The submission with the best score; None if there is none."""
    reason: str
    """Why it contributes nothing; empty if it does."""

    @property
    def amount(self) -> Fraction:
        """Emission / emission_sum * score / score_sum."""
        if self.reason:
            return Fraction(0)
        return Fraction(self.emission * self.score, self.emission_sum * self.score_sum)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why `uid` has its weights in the closed epoch `epoch`."""

    epoch: int
    uid: int
    hotkey: bytes | None
    """Who holds the uid; None if nobody does."""
    weights: dict[int, int]
    """Mechanism -> weight, 0 where the uid is not in the vector."""
    reasons: dict[int, str]
    """Mechanism -> what the weight is or why it is 0, see `_reason`."""
    parts: tuple[Part, ...]
    results: dict[str, int]
    """How the hotkey's submissions ended in that epoch: by outcome class, `disputed` or `copy`."""
    masked: tuple[Masked, ...]
    """Former holders of the uid whose scores count nothing."""


def explain(view: View, uid: int) -> Explanation | None:
    """Return why `uid` has its weight in the newest closed epoch, None before the first one."""
    epoch = current_epoch(view) - 1
    weights = read(view, EpochWeights, weights_key(epoch)) if epoch >= 0 else None
    if weights is None:
        return None
    holder = _holder(view, uid)
    best = best_scores(view, epoch)
    parts = tuple(_part(share, weights, holder, best) for share in weights.shares)
    given = {
        one.mechanism: {entry.uid: entry.weight for entry in one.vector}.get(uid, 0)
        for one in weights.mechanisms
    }
    return Explanation(
        epoch=epoch,
        uid=uid,
        hotkey=None if holder is None else holder.hotkey,
        weights=given,
        reasons={
            one.mechanism: _reason(
                given[one.mechanism],
                uid in one.padded,
                one.reason,
                holder,
                [part for part in parts if part.mechanism == one.mechanism],
            )
            for one in weights.mechanisms
        },
        parts=parts,
        results={} if holder is None else _results(view, holder.hotkey, epoch),
        masked=tuple(one for one in weights.masked if one.uid == uid),
    )


def _holder(view: View, uid: int) -> Neuron | None:
    for _, data in view.items(keys.NEURON):
        found = decode(Neuron, data)
        if found.uid == uid:
            return found
    return None


def _part(
    share: ChallengeShare,
    weights: EpochWeights,
    holder: Neuron | None,
    best: dict[str, dict[bytes, keys.Best]],
) -> Part:
    mine = None if holder is None else best.get(share.challenge_id, {}).get(holder.hotkey)
    reason: str = share.reason
    if not reason and mine is None:
        reason = "no_result"
    elif not reason and mine is not None and mine.score == 0:
        reason = "score_zero"
    return Part(
        challenge_id=share.challenge_id,
        mechanism=share.mechanism,
        emission=share.emission,
        emission_sum=sum(s.emission for s in weights.shares if s.mechanism == share.mechanism),
        score=0 if mine is None else mine.score,
        score_sum=share.score_sum,
        submission_id=None if mine is None else mine.submission_id,
        reason=reason,
    )


def _reason(
    weight: int, padded: bool, vector_reason: str, holder: Neuron | None, parts: list[Part]
) -> str:
    """Return one word for one mechanism.

    `earned`; `padded` (weight 1, because the chain wants so many entries); `not_registered`;
    `max_weight` (there is no vector at all); `no_challenge` (the mechanism has none);
    `rounded_to_zero` (less than half of 1/65535 of the largest weight); or what all its
    challenges say: `no_result`, `score_zero`, `no_scores`; `nothing_counted` if they differ.
    """
    if weight > 0:
        return "padded" if padded else "earned"
    if holder is None:
        return "not_registered"
    if any(part.amount for part in parts):
        return vector_reason or "rounded_to_zero"
    if not parts:
        return "no_challenge"
    said = {part.reason for part in parts}
    return said.pop() if len(said) == 1 else "nothing_counted"


def _results(view: View, hotkey: bytes, epoch: int) -> dict[str, int]:
    ended: Counter[str] = Counter()
    for _, data in view.items(keys.RESULT):
        result = decode(Result, data)
        if result.hotkey == hotkey and result.epoch == epoch:
            basis = result.basis
            if isinstance(basis, Replicated):
                ended[basis.outcome_class] += 1
            else:
                ended[type(basis).__name__.lower()] += 1
    return dict(sorted(ended.items()))
