"""From what the chain says to what the validators agree on."""

from __future__ import annotations

from chain.interface import Metagraph
from protocol.records.genesis import Neuron
from protocol.records.metagraph import EpochMetagraph, WeightRules


def epoch_metagraph(metagraph: Metagraph, epoch: int) -> EpochMetagraph:
    """Return the metagraph, read at the first block of chain epoch `epoch`, as it is agreed on.

    Only what the chain fixes for that block goes in, nothing that depends on when or where it was
    read: two nodes with a good endpoint get the same digest. Raises `MetagraphFormError` for one
    that no batch may hold.
    """
    rules = metagraph.rules
    found = EpochMetagraph(
        epoch=epoch,
        block=metagraph.block.number,
        block_hash=metagraph.block.block_hash,
        owner=metagraph.owner_hotkey,
        rules=WeightRules(
            min_allowed_weights=rules.min_allowed_weights,
            max_weight_limit=rules.max_weight_limit,
            mechanisms=rules.mechanisms,
        ),
        neurons=tuple(
            Neuron(
                uid=neuron.uid,
                hotkey=neuron.hotkey,
                stake=neuron.stake,
                validator_permit=neuron.validator_permit,
            )
            for neuron in metagraph.neurons
        ),
    )
    found.check_form()
    return found
