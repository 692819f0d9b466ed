"""The voters of one epoch and their arithmetic. All of it is in integers.

Rules (the numbers are docs/consensus.md's):
1. A *quorum* is 3x > 2T and a *blocking weight* is 3x >= T over distinct signers, where T is the
   effective weight of the whole set. Who is alive never changes T: otherwise both sides of a
   partition could count themselves a quorum. Sets of 1, 2 and 3 need no special case.
12. A set decides the slots of its own epoch and no others, so it knows which they are: those above
    the edge of the epoch before, up to its own edge once that is fixed. Whoever judges a
    certificate asks `check_decides` (`certificate`, `checkpoints`): keys that were sold after their
    epoch sign nothing that anybody believes outside it.
13. Stake cap, for sets of five and more: c1 is the largest integer with 4c <= sum(min(w, c)), c2
    the smallest with 2 sum(min(w, c)) >= sum(w); effective weight = min(w, max(c1, c2)). Nobody
    holds more than a quarter unless the cap would have to shift more than half of the stake.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Self

from consensus.proposer import proposer_schedule
from protocol.envelope import VoteDomain
from protocol.errors import ProofError
from protocol.records.validators import ValidatorSet


def is_quorum(weight: int, total: int) -> bool:
    """Return whether `weight` is more than two thirds of `total`."""
    return 3 * weight > 2 * total


def is_blocking(weight: int, total: int) -> bool:
    """Return whether `weight` is at least a third of `total`: no quorum forms without it."""
    return 3 * weight >= total


def _largest(holds: Callable[[int], bool], top: int) -> int:
    low, high = 0, top
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low


def capped_weights(weights: Sequence[int], parts: int, whole: int) -> tuple[int, ...]:
    """Return the weights, none of which is more than parts / whole of their sum.

    The cap is never so low that it takes more than half of the sum away: where few hold nearly
    everything, they keep more than the share rather than hand the votes to almost no stake.
    """

    def capped_sum(cap: int) -> int:
        return sum(min(weight, cap) for weight in weights)

    top, total = max(weights), sum(weights)
    share = _largest(lambda cap: whole * cap <= parts * capped_sum(cap), top)
    half = _largest(lambda cap: 2 * capped_sum(cap) < total, top) + 1
    cap = max(share, half)
    return tuple(min(weight, cap) for weight in weights)


def effective_weights(weights: Sequence[int]) -> tuple[int, ...]:
    """Return the voting weights after the stake cap (rule 13)."""
    return tuple(weights) if len(weights) <= 4 else capped_weights(weights, 1, 4)


class Voters:
    """A validator set with everything the protocol computes from it.

    It decides the slots in (`after`, `until`]; `until` is None while its edge is not known here.
    """

    def __init__(
        self,
        validator_set: ValidatorSet,
        network_id: bytes,
        *,
        after: int | None = None,
        until: int | None = None,
    ) -> None:
        """Take a set whose epoch begins above slot `after`: the genesis' begins above 0."""
        if after is None and validator_set.epoch > 0:
            raise ValueError(f"the set of epoch {validator_set.epoch} needs the edge before it")
        self.after = after or 0
        self.until = until
        self.validator_set = validator_set
        self.members = validator_set.members
        self.epoch = validator_set.epoch
        self.domain = VoteDomain(
            network_id=network_id, epoch=self.epoch, set_hash=validator_set.set_hash()
        )
        self.weights = effective_weights([member.weight for member in self.members])
        self.total = sum(self.weights)

    @cached_property
    def _schedule(self) -> tuple[int, ...]:
        # Made on first use: it takes longest of all, and who only judges by a set never asks.
        return proposer_schedule(self.weights)

    def __len__(self) -> int:
        return len(self.members)

    def ending(self, until: int) -> Self:
        """Return the same set, whose epoch ends with slot `until`."""
        ended = copy.copy(self)
        ended.until = until
        return ended

    def check_decides(self, seq: int) -> None:
        """Raise `ProofError` for a slot that is not of this set's epoch (rule 12)."""
        if seq <= self.after or (self.until is not None and seq > self.until):
            span = f"above {self.after}" + ("" if self.until is None else f" up to {self.until}")
            raise ProofError(f"slot {seq} is not of epoch {self.epoch}, whose slots are {span}")

    def key(self, index: int) -> bytes:
        """Return the consensus key of the validator at `index`."""
        return self.members[index].consensus_key

    def index_of_key(self, consensus_key: bytes) -> int | None:
        """Return the index of a consensus key, or None if it has no vote."""
        for index, member in enumerate(self.members):
            if member.consensus_key == consensus_key:
                return index
        return None

    def weight_of(self, signers: Iterable[int]) -> int:
        """Return the effective weight of distinct `signers`."""
        return sum(self.weights[signer] for signer in set(signers))

    def is_quorum(self, signers: Iterable[int]) -> bool:
        """Return whether `signers` hold a quorum."""
        return is_quorum(self.weight_of(signers), self.total)

    def smallest_quorum(self, signers: Iterable[int]) -> list[int]:
        """Return the heaviest of `signers` that are a quorum, by index; all if they are none."""
        chosen: list[int] = []
        for signer in sorted(set(signers), key=lambda index: (-self.weights[index], index)):
            if self.is_quorum(chosen):
                break
            chosen.append(signer)
        return sorted(chosen)

    def is_blocking(self, signers: Iterable[int]) -> bool:
        """Return whether `signers` hold blocking weight."""
        return is_blocking(self.weight_of(signers), self.total)

    def primary(self, view: int) -> int:
        """Return the index of the view's primary."""
        return self._schedule[view % len(self._schedule)]
