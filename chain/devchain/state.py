"""The state after a block: one subnet and its accounts, as frozen records.

Rules:
1. A state never changes; what changes it returns another. So a block keeps its state for free,
   and a reorganisation is going on from an older one.
2. Stake is the hotkey's, in rao, and outlives its registration, as on the live chain. Root stake
   is meant as already weighted: a neuron's stake is the sum of both.
3. Weights, last updates and commits are kept for each mechanism. On the wire a mechanism is part
   of the storage index: mechanism * 4096 + netuid.
4. A uid is a place in `neurons`. A uid that gets another hotkey keeps its weights, as on the
   live chain; its last update becomes 0.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from msgspec.structs import replace

from chain.interface import Block, Metagraph, Neuron, SubnetRules
from protocol.codec import U16, U32, U64, Digest, PublicKey, Record

MECHANISM_STRIDE = 4096
MAX_MECHANISMS = 16
MAX_UIDS = 4096

Uid = Annotated[int, Meta(ge=0, le=MAX_UIDS - 1)]


class Account(Record, frozen=True):
    """A key that has ever been used here. Only accounts may send extrinsics."""

    key: PublicKey
    nonce: U32 = 0
    alpha_stake: U64 = 0
    root_stake: U64 = 0

    @property
    def stake(self) -> int:
        """Alpha plus weighted root, in rao."""
        return self.alpha_stake + self.root_stake


class Registration(Record, frozen=True):
    """Who holds a uid."""

    hotkey: PublicKey
    coldkey: PublicKey
    validator_permit: bool = False
    registered_at: U64 = 0


class Hyperparameters(Record, frozen=True):
    """The subnet's rules, by the names that the live chain's storage has for them.

    Blocks for tempo and rate limit, rao for the stake, epochs for the reveal period.
    """

    tempo: U16 = 360
    weights_rate_limit: U64 = 100
    min_stake: U64 = 0
    version_key: U64 = 0
    mechanisms: Annotated[int, Meta(ge=1, le=MAX_MECHANISMS)] = 1
    min_allowed_weights: U16 = 1
    max_weight_limit: U16 = 0xFFFF
    commit_reveal: bool = True
    reveal_period: Annotated[int, Meta(ge=1, le=100)] = 1
    commit_reveal_version: U16 = 4
    epoch_consensus: Annotated[int, Meta(ge=0, le=1)] = 0


class EpochClock(Record, frozen=True):
    """Where the subnet stands in its epochs. `pending_at` 0 means that none is asked for."""

    index: U64 = 0
    last_block: U64 = 0
    pending_at: U64 = 0
    blocks_since_step: U64 = 0


class WeightRow(Record, frozen=True):
    """The weights of one uid for one mechanism, in stored order."""

    mechanism: U16
    uid: Uid
    vector: tuple[tuple[U16, U16], ...]


class TimelockedCommit(Record, frozen=True):
    """Weights hidden until a drand round; `epoch` is the one it was committed in."""

    mechanism: U16
    epoch: U64
    hotkey: PublicKey
    block: U64
    ciphertext: bytes
    reveal_round: U64


class HashCommit(Record, frozen=True):
    """Weights hidden behind a hash, which their owner must reveal."""

    mechanism: U16
    epoch: U64
    hotkey: PublicKey
    block: U64
    digest: Digest


class Pulse(Record, frozen=True):
    """A drand round whose signature the chain knows."""

    round: U64
    signature: bytes


class State(Record, frozen=True):
    """See the module's rules. `updates` holds, for each mechanism, the last update by uid."""

    netuid: U16
    owner_hotkey: PublicKey
    owner_coldkey: PublicKey
    block_time_ms: U64
    block: U64 = 0
    timestamp_ms: U64 = 0
    accounts: tuple[Account, ...] = ()
    neurons: tuple[Registration, ...] = ()
    rules: Hyperparameters = Hyperparameters()
    epochs: EpochClock = EpochClock()
    weights: tuple[WeightRow, ...] = ()
    updates: tuple[tuple[U64, ...], ...] = ((),)
    commits: tuple[TimelockedCommit, ...] = ()
    hash_commits: tuple[HashCommit, ...] = ()
    pulses: tuple[Pulse, ...] = ()

    def account(self, key: bytes) -> Account | None:
        """Return the account of `key`, or None if it was never used here."""
        return next((one for one in self.accounts if one.key == key), None)

    def uid_of(self, hotkey: bytes) -> int | None:
        """Return the uid that `hotkey` holds, or None."""
        return next((uid for uid, one in enumerate(self.neurons) if one.hotkey == hotkey), None)

    def stake_of(self, hotkey: bytes) -> int:
        """Return the hotkey's stake in rao, registered or not."""
        account = self.account(hotkey)
        return 0 if account is None else account.stake

    def weights_of(self, uid: int, mechanism: int) -> tuple[tuple[int, int], ...]:
        """Return what is stored for `uid`, () if nothing."""
        rows = (row.vector for row in self.weights if (row.mechanism, row.uid) == (mechanism, uid))
        return next(rows, ())

    def last_update(self, uid: int, mechanism: int) -> int:
        """Return the block of the last weights or commit of `uid`, 0 if there is none."""
        if not 0 <= mechanism < len(self.updates) or not 0 <= uid < len(self.updates[mechanism]):
            return 0
        return self.updates[mechanism][uid]

    def storage_index(self, mechanism: int) -> int:
        """Return the number under which the chain stores what belongs to a mechanism."""
        return mechanism * MECHANISM_STRIDE + self.netuid

    def with_account(self, account: Account) -> State:
        """Return the state with `account` in the place of the one with its key."""
        others = tuple(one for one in self.accounts if one.key != account.key)
        return replace(self, accounts=(*others, account))

    def with_weights(self, row: WeightRow) -> State:
        """Return the state with `row` in the place of the one it replaces."""
        place = (row.mechanism, row.uid)
        others = tuple(one for one in self.weights if (one.mechanism, one.uid) != place)
        return replace(self, weights=(*others, row))

    def with_update(self, uid: int, mechanism: int, block: int) -> State:
        """Return the state with the last update of `uid` set to `block`."""
        grid = [list(row) for row in self.updates]
        grid += [[] for _ in range(mechanism + 1 - len(grid))]
        grid[mechanism] += [0] * (len(self.neurons) - len(grid[mechanism]))
        grid[mechanism][uid] = block
        return replace(self, updates=tuple(tuple(row) for row in grid))

    def metagraph(self, block_hash: bytes = bytes(32)) -> Metagraph:
        """Return the subnet as the checks of a weights call see it (mechanism 0)."""
        stakes = {account.key: account.stake for account in self.accounts}
        return Metagraph(
            netuid=self.netuid,
            block=Block(self.block, block_hash),
            neurons=tuple(
                Neuron(
                    uid=uid,
                    hotkey=one.hotkey,
                    stake=stakes.get(one.hotkey, 0),
                    validator_permit=one.validator_permit,
                    last_update=self.last_update(uid, 0),
                )
                for uid, one in enumerate(self.neurons)
            ),
            owner_hotkey=self.owner_hotkey,
            rules=SubnetRules(
                min_stake=self.rules.min_stake,
                version_key=self.rules.version_key,
                mechanisms=self.rules.mechanisms,
                min_allowed_weights=self.rules.min_allowed_weights,
                max_weight_limit=self.rules.max_weight_limit,
                commit_reveal=self.rules.commit_reveal,
            ),
        )
