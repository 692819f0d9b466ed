"""The metagraph of an epoch: what the replicated state knows of the chain.

Validators state the digest of the metagraph that they read at the block that begins an epoch
(`Observation.snapshot_hash`). Once a quorum has stated the same one, the primary puts the metagraph
itself into a batch; it has an effect only if it has that digest. So every node, also one that
replays the log or installs a snapshot, has the same neurons without asking a chain.

How a weights call must be made (commit-reveal, rate limits) is no part of it: who submits asks the
chain at that moment.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from msgspec import Meta

from protocol.codec import U16, U64, Digest, PublicKey, Record
from protocol.errors import ProtocolError
from protocol.records.genesis import Neuron

MAX_NEURONS = 4096
"""At most about 50 bytes each: the largest metagraph fits into a batch of 256 KiB."""
MAX_MECHANISMS = 16
MAX_CELLS = 16_384
"""Neurons times mechanisms: the vectors of an epoch are one value of the replicated state."""


class MetagraphFormError(ProtocolError):
    """A metagraph that is too large, repeats a hotkey, or whose uids do not ascend."""

    reason = "metagraph_form"


class WeightRules(Record):
    """The subnet's hyperparameters that decide what a vector may look like."""

    min_allowed_weights: U16
    """Fewest entries of a vector, at most the number of neurons."""
    max_weight_limit: U16
    """Largest share of one entry in the sum of a vector, in 65535ths; 65535 is no bound."""
    mechanisms: Annotated[int, Meta(ge=1, le=MAX_MECHANISMS)]
    """How many there are; each takes a vector of its own."""


class EpochMetagraph(Record, tag="metagraph"):
    """The subnet as it was after the block that begins an epoch."""

    epoch: U64
    """The epoch that begins."""
    block: U64
    block_hash: Digest
    owner: PublicKey | None
    """The subnet owner's hotkey; it need not be registered."""
    rules: WeightRules
    neurons: Annotated[tuple[Neuron, ...], Meta(max_length=MAX_NEURONS)]
    """In ascending order of uid; uids need not be dense. Stake in rao."""

    def check_form(self) -> None:
        """Raise `MetagraphFormError` unless uids ascend, hotkeys differ and it is not too large."""
        if len(self.neurons) > MAX_NEURONS:  # decoding checks this, too; reading a chain does not
            raise MetagraphFormError(
                f"metagraph of block {self.block}: {len(self.neurons)} neurons, the limit is "
                f"{MAX_NEURONS}"
            )
        if not 1 <= self.rules.mechanisms <= MAX_MECHANISMS:
            raise MetagraphFormError(
                f"metagraph of block {self.block}: {self.rules.mechanisms} mechanisms, expected "
                f"1 to {MAX_MECHANISMS}"
            )
        if len(self.neurons) * self.rules.mechanisms > MAX_CELLS:
            raise MetagraphFormError(
                f"metagraph of block {self.block}: {len(self.neurons)} neurons times "
                f"{self.rules.mechanisms} mechanisms, the limit is {MAX_CELLS}"
            )
        for left, right in pairwise(self.neurons):
            if left.uid >= right.uid:
                raise MetagraphFormError(
                    f"metagraph of block {self.block}: uid {right.uid} follows uid {left.uid}"
                )
        if len({neuron.hotkey for neuron in self.neurons}) != len(self.neurons):
            raise MetagraphFormError(f"metagraph of block {self.block}: a hotkey occurs twice")
