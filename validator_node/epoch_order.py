"""What is to be carried to the chain for a closed epoch. Pure."""

from __future__ import annotations

from chain.submitter_epoch import Certified, EpochOrder
from protocol.codec import decode, digest_of
from protocol.records.genesis import Neuron
from protocol.records.weights import EpochWeights
from protocol.view import View
from registry import keys


def epoch_order(view: View, weights: EpochWeights) -> EpochOrder:
    """Return the order for the newest closed epoch; `view` is the state since it was closed.

    Each uid goes with the hotkey that held it when the epoch ended: should another one hold it by
    the time of the submission, it is left out. `AssertionError` if nobody held one: then the state
    is of another epoch, and masking by it would be wrong.
    """
    neurons = (decode(Neuron, data) for _, data in view.items(keys.NEURON))
    holder = {one.uid: one.hotkey for one in neurons}
    vectors = []
    for one in weights.mechanisms:
        vector = tuple((entry.uid, entry.weight) for entry in one.vector)
        unknown = [uid for uid, _ in vector if uid not in holder]
        if unknown:
            raise AssertionError(
                f"weights of epoch {weights.epoch}, mechanism {one.mechanism}: nobody holds uids "
                f"{unknown} in the state, which is not the one that the epoch's end left"
            )
        holders = tuple(holder[uid] for uid, _ in vector)
        vectors.append(Certified(one.mechanism, vector, holders))
    return EpochOrder(
        epoch=weights.epoch,
        since_block=weights.block,
        vectors=tuple(vectors),
        seed=digest_of(weights),
    )
