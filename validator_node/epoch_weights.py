"""The weights of an epoch, from its settled results and the metagraph that ended it. Pure, exact.

Rules (worked by hand in docs/weights.md):
1. Results belong to hotkeys. The uid that earns is the one that the hotkey holds in the metagraph
   that ended the epoch. Whoever is not in it any more has no weight (*masked*), and whoever got its
   uid does not inherit it; the others of the challenge share what it would have had.
2. Within a mechanism each challenge has emission / sum of emissions, and of that each miner has
   its best score / sum of the best scores (`chain.weights.aggregate`).
3. A challenge without scores pays nobody. Weights are relative, so on the chain the mechanism's
   other challenges pay more for it; nobody else is put in its place, and the share says so. A
   challenge of a mechanism that the subnet does not have pays nobody either.
4. Each mechanism has a vector of its own, made to fit the chain's limits (`chain.fitting`), or a
   reason why there is none. The order in which results were settled plays no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chain.fitting import fit
from chain.weights import aggregate
from protocol.codec import digest_of
from protocol.records.challenge import Challenge
from protocol.records.metagraph import EpochMetagraph
from protocol.records.weights import (
    MAX_MASKED,
    ChallengeShare,
    EpochWeights,
    Masked,
    MechanismWeights,
    WeightEntry,
)
from registry.keys import Best

Scores = Mapping[str, Mapping[bytes, Best]]
"""Challenge id -> hotkey -> best settled score."""


def epoch_weights(
    epoch: int, metagraph: EpochMetagraph, best: Scores, challenges: Iterable[Challenge]
) -> EpochWeights:
    """Return the weights of `epoch`, which `metagraph` ended.

    `challenges` are the active ones; scores of others count nothing.
    """
    active = {entry.challenge_id: entry for entry in challenges}
    uid_of = {neuron.hotkey: neuron.uid for neuron in metagraph.neurons}
    scores = {
        name: {uid_of[key]: one.score for key, one in best.get(name, {}).items() if key in uid_of}
        for name in active
    }
    masked = _masked(metagraph, best)
    return EpochWeights(
        epoch=epoch,
        block=metagraph.block,
        block_hash=metagraph.block_hash,
        snapshot_hash=digest_of(metagraph),
        mechanisms=tuple(
            _mechanism(number, metagraph, scores, active)
            for number in range(metagraph.rules.mechanisms)
        ),
        shares=tuple(
            _share(active[name], sum(scores[name].values()), metagraph.rules.mechanisms)
            for name in sorted(active)
        ),
        masked=tuple(masked[:MAX_MASKED]),
        masked_count=len(masked),
    )


def _masked(metagraph: EpochMetagraph, best: Scores) -> list[Masked]:
    """Return the hotkeys whose scores count nothing any more (rule 1)."""
    registered = {neuron.hotkey for neuron in metagraph.neurons}
    taken = {neuron.uid for neuron in metagraph.neurons}
    uid_of = {
        hotkey: one.uid
        for name in sorted(best)
        for hotkey, one in best[name].items()
        if hotkey not in registered and one.score > 0
    }
    return [
        Masked(
            hotkey=hotkey,
            uid=uid_of[hotkey],
            reason="uid_reused" if uid_of[hotkey] in taken else "deregistered",
        )
        for hotkey in sorted(uid_of)
    ]


def _mechanism(
    number: int,
    metagraph: EpochMetagraph,
    scores: Mapping[str, Mapping[int, int]],
    active: Mapping[str, Challenge],
) -> MechanismWeights:
    emission = {name: one.emission for name, one in active.items() if one.mechanism == number}
    fitted = fit(
        aggregate(scores, emission),
        (neuron.uid for neuron in metagraph.neurons),
        max_limit=metagraph.rules.max_weight_limit,
        min_length=metagraph.rules.min_allowed_weights,
    )
    return MechanismWeights(
        mechanism=number,
        vector=tuple(WeightEntry(uid=uid, weight=weight) for uid, weight in fitted.vector),
        reason=fitted.reason,
        padded=fitted.padded,
    )


def _share(challenge: Challenge, score_sum: int, mechanisms: int) -> ChallengeShare:
    exists = challenge.mechanism < mechanisms
    return ChallengeShare(
        challenge_id=challenge.challenge_id,
        mechanism=challenge.mechanism,
        emission=challenge.emission,
        score_sum=score_sum,
        reason="no_mechanism" if not exists else "" if score_sum else "no_scores",
    )
