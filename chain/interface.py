"""What the node asks of a chain: blocks, the metagraph, epochs, and one write.

Rules:
1. A `Chain` is bound to one subnet. Block numbers are finalised ones; stake is in the chain's
   smallest unit (rao); weights are unsigned 16-bit integers.
2. Every method may raise `ChainError` and nothing else for what the chain or the way to it did.
   None has a time-out of its own: the caller puts a deadline around it, and a cancelled
   `set_weights` may still land.
3. Inclusion is not application: `set_weights` reports the former; `weights_of` shows the latter.
4. Everything returned is frozen; an adapter whose SDK blocks does its calls in a thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

WeightVector = tuple[tuple[int, int], ...]
"""(uid, weight) pairs, both u16. Certified vectors are in normal form (`chain.weights`)."""

MAX_WEIGHT = 0xFFFF
MAX_UID = 0xFFFF


@dataclass(frozen=True, slots=True)
class Block:
    """A finalised block."""

    number: int
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class Neuron:
    """One registered hotkey of the subnet, at a block.

    `stake` is alpha plus weighted root, in rao. `last_update` is the block of the last weights
    (or commit) of mechanism 0; 0 means never.
    """

    uid: int
    hotkey: bytes
    stake: int
    validator_permit: bool
    last_update: int


@dataclass(frozen=True, slots=True)
class SubnetRules:
    """The subnet's hyperparameters that decide whether a weights call is accepted.

    `min_stake` in rao. `version_key` 0 accepts any. `mechanisms` is how many exist (1-16).
    `max_weight_limit` bounds the largest normalised weight as a u16 ratio; 65535 is no bound.
    """

    min_stake: int = 0
    version_key: int = 0
    mechanisms: int = 1
    min_allowed_weights: int = 0
    max_weight_limit: int = MAX_WEIGHT
    commit_reveal: bool = False


@dataclass(frozen=True)
class Metagraph:
    """The subnet at a block. `neurons` are in ascending order of uid; uids need not be dense.

    `owner_hotkey` is the subnet owner's (SubnetOwnerHotkey), whose uid need not be 0.
    """

    netuid: int
    block: Block
    neurons: tuple[Neuron, ...]
    owner_hotkey: bytes | None = None
    rules: SubnetRules = SubnetRules()
    _by_uid: Mapping[int, Neuron] = field(init=False, repr=False, compare=False)
    _by_hotkey: Mapping[bytes, Neuron] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_uid = {neuron.uid: neuron for neuron in self.neurons}
        by_hotkey = {neuron.hotkey: neuron for neuron in self.neurons}
        if len(by_uid) != len(self.neurons) or len(by_hotkey) != len(self.neurons):
            raise ValueError(
                f"metagraph of subnet {self.netuid} at block {self.block.number}: "
                f"{len(self.neurons)} neurons, {len(by_uid)} uids, {len(by_hotkey)} hotkeys; "
                "a uid or a hotkey occurs twice"
            )
        object.__setattr__(self, "_by_uid", MappingProxyType(by_uid))
        object.__setattr__(self, "_by_hotkey", MappingProxyType(by_hotkey))

    def by_uid(self, uid: int) -> Neuron | None:
        """Return the neuron holding `uid`, or None."""
        return self._by_uid.get(uid)

    def by_hotkey(self, hotkey: bytes) -> Neuron | None:
        """Return the neuron of `hotkey` (32 bytes), or None if it is not registered."""
        return self._by_hotkey.get(hotkey)

    @property
    def owner(self) -> Neuron | None:
        """The subnet owner's neuron, or None if the owner is unknown or not registered."""
        return None if self.owner_hotkey is None else self.by_hotkey(self.owner_hotkey)

    @property
    def validators(self) -> tuple[Neuron, ...]:
        """The neurons with a validator permit, in ascending order of uid."""
        return tuple(neuron for neuron in self.neurons if neuron.validator_permit)


@dataclass(frozen=True, slots=True)
class EpochStatus:
    """Epoch `epoch` covers the blocks [first_block, next_epoch_block).

    `next_epoch_block` is a forecast on a live chain, whose tempo may change; never hard-code it.
    """

    epoch: int
    first_block: int
    next_epoch_block: int


@dataclass(frozen=True, slots=True)
class Submitted:
    """A weights call was included in `block`; `reference` identifies it for people and logs."""

    block: Block
    reference: str


@dataclass(frozen=True, slots=True)
class PendingCommit:
    """Hidden weights that the chain has included in `block` and has not applied yet.

    `reveal_round` is the drand round that opens them, 0 if the chain does not say.
    """

    block: int
    reveal_round: int = 0


class HotkeySigner(Protocol):
    """Holds a hotkey (sr25519), here or in a remote signer. `sign` may block; it runs in a thread.

    An adapter whose SDK wants a wallet object builds one around this signer.
    """

    @property
    def public_key(self) -> bytes:
        """The 32 bytes of the hotkey's public key."""
        ...

    def sign(self, message: bytes, /) -> bytes:
        """Return the 64-byte sr25519 signature of `message`, not `<Bytes>`-wrapped."""
        ...


class Chain(Protocol):
    """One subnet of a chain. See the module's rules for errors, deadlines and units."""

    async def head(self) -> Block:
        """Return the newest finalised block."""
        ...

    async def metagraph(self, block_number: int) -> Metagraph:
        """Return the subnet as it was after `block_number` (raises `unknown_block` beyond head)."""
        ...

    async def epoch_status(self, block_number: int) -> EpochStatus:
        """Return the epoch that `block_number` belongs to (`unknown_block` beyond head)."""
        ...

    async def set_weights(
        self,
        signer: HotkeySigner,
        vector: WeightVector,
        *,
        mechanism: int = 0,
        version_key: int = 0,
    ) -> Submitted:
        """Submit `vector` for the signer's hotkey and wait until a block includes it.

        Raises `ChainError` with the first check that fails, in the chain's order. Preflight is
        the caller's (`chain.submitter`); the adapter must not retry.
        """
        ...

    async def weights_of(self, uid: int, mechanism: int = 0) -> WeightVector:
        """Return what the chain stores for `uid` now, in stored order; () if it stores nothing."""
        ...

    async def last_update_of(self, uid: int, mechanism: int = 0) -> int:
        """Return the block of the last weights or commit of `uid` for `mechanism`; 0 if never."""
        ...

    async def weights_rate_limit(self) -> int:
        """Return the least distance in blocks between two weight calls of one hotkey."""
        ...

    async def pending_commits(self, hotkey: bytes, mechanism: int = 0) -> tuple[PendingCommit, ...]:
        """Return the commits of `hotkey` that wait for their reveal, by ascending block.

        Empty without commit-reveal, and for a hotkey that is not registered. A commit that is gone
        was applied or lost: which one, `weights_of` shows.
        """
        ...
