"""A chain without a chain: blocks from a clock, weights in files shared by the processes.

It is a real implementation of `Chain` for tests, demonstrations and private networks whose
participants share a machine or a disk.

Rules:
1. A block is a number derived from the injected clock: (now - start) // block time, 0 before the
   start. Its hash depends on the genesis and the number only, so that every process sees the
   same chain without talking to the others. All blocks are final.
2. Neurons, stake and permits are the genesis' own and never change; the subnet's only state is
   the weights (`chain.hotkey_files`).
3. A call is verified, then checked as the chain does and in its order (`chain.rules`), then
   stored upscaled. What fails changes nothing.
4. Epochs count from block 0 (`chain.tempo`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import trio
from msgspec import Meta

from chain.errors import ChainError, ChainErrorCode
from chain.hotkey_files import HotkeyFiles, HotkeyState, Submission
from chain.interface import (
    MAX_WEIGHT,
    Block,
    EpochStatus,
    HotkeySigner,
    Metagraph,
    Neuron,
    PendingCommit,
    Submitted,
    SubnetRules,
    WeightVector,
)
from chain.rules import CallUnderCheck, checked_weights
from chain.tempo import epoch_status_at
from chain.weights_call import WeightsCall, require_well_formed, verify_call
from protocol.codec import U16, U64, PublicKey, Record, digest_of, sha256
from protocol.identity import ss58_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

BLOCK_DOMAIN = b"chain/embedded/block/1\n"
_PARALLEL_CALLS = 4

Positive = Annotated[int, Meta(ge=1, le=0x7FFF_FFFF_FFFF_FFFF)]


class GenesisNeuron(Record, frozen=True):
    """One neuron; its uid is its place in `ChainGenesis.neurons`. Stake in rao."""

    hotkey: PublicKey
    stake: U64
    validator_permit: bool


class ChainGenesis(Record, frozen=True):
    """Everything the processes of one embedded chain must agree on.

    Times in milliseconds (start: since the Unix epoch, or whatever the clock counts from), tempo
    and rate limit in blocks, stake in rao. See `SubnetRules` for the rest.
    """

    netuid: U16
    start_ms: U64
    block_time_ms: Positive
    tempo: Positive
    neurons: tuple[GenesisNeuron, ...]
    weights_rate_limit: U64 = 100
    min_stake: U64 = 0
    version_key: U64 = 0
    owner_hotkey: PublicKey | None = None
    mechanisms: Annotated[int, Meta(ge=1, le=16)] = 1
    min_allowed_weights: U16 = 0
    max_weight_limit: U16 = MAX_WEIGHT

    def __post_init__(self) -> None:
        # msgspec checks the bounds of a field when it decodes, not when code makes a value.
        if min(self.block_time_ms, self.tempo, self.mechanisms) < 1:
            raise ValueError(
                f"block time {self.block_time_ms} ms, tempo {self.tempo}, {self.mechanisms} "
                "mechanisms: each must be 1 or more"
            )
        hotkeys = {neuron.hotkey for neuron in self.neurons}
        if len(hotkeys) != len(self.neurons):
            raise ValueError(f"{len(self.neurons)} neurons but {len(hotkeys)} different hotkeys")

    @property
    def digest(self) -> bytes:
        """The identity of the chain, part of every block hash and signature."""
        return digest_of(self)

    @property
    def rules(self) -> SubnetRules:
        """The hyperparameters that the checks of a call read."""
        return SubnetRules(
            min_stake=self.min_stake,
            version_key=self.version_key,
            mechanisms=self.mechanisms,
            min_allowed_weights=self.min_allowed_weights,
            max_weight_limit=self.max_weight_limit,
        )


class EmbeddedChain:
    """A `Chain` for the processes that share `genesis`, `directory` and a clock.

    File work happens in threads. A cancelled call leaves its thread to finish, as a cancelled
    call to a live chain may still land. `in_thread=False` does it in place: for simulations under
    trio's autojump clock, which takes waiting for a thread for idleness and jumps to the deadline.
    """

    def __init__(
        self,
        genesis: ChainGenesis,
        directory: Path,
        now_ms: Callable[[], int],
        *,
        in_thread: bool = True,
    ) -> None:
        self.genesis = genesis
        self._digest = genesis.digest
        self._files = HotkeyFiles(directory, self._digest)
        self._now_ms = now_ms
        self._in_thread = in_thread
        # A limiter of its own: a stuck disk must not use up the process' threads.
        self._limiter = trio.CapacityLimiter(_PARALLEL_CALLS)

    async def head(self) -> Block:
        """Return the block of the present moment."""
        await trio.lowlevel.checkpoint()
        return self._head()

    async def epoch_status(self, block_number: int) -> EpochStatus:
        """Return the epoch of `block_number`; `unknown_block` beyond head or below 0."""
        await trio.lowlevel.checkpoint()
        self._require_known(block_number)
        return epoch_status_at(block_number, self.genesis.tempo)

    async def weights_rate_limit(self) -> int:
        """Return the genesis' rate limit, in blocks."""
        await trio.lowlevel.checkpoint()
        return self.genesis.weights_rate_limit

    async def metagraph(self, block_number: int) -> Metagraph:
        """Return the genesis' neurons with their last update as of `block_number`."""
        self._require_known(block_number)
        return await self._offload(lambda: self._metagraph(block_number))

    async def weights_of(self, uid: int, mechanism: int = 0) -> WeightVector:
        """Return what the files hold for `uid` now; `unknown_uid` if there is no such neuron."""
        state = await self._state_of(uid)
        latest = state.latest.get(mechanism)
        return () if latest is None else latest.vector

    async def last_update_of(self, uid: int, mechanism: int = 0) -> int:
        """Return the block of the last submission of `uid` for `mechanism`, 0 if never."""
        return (await self._state_of(uid)).last_update(mechanism)

    async def pending_commits(
        self,
        hotkey: bytes,  # noqa: ARG002 - the interface's
        mechanism: int = 0,  # noqa: ARG002
    ) -> tuple[PendingCommit, ...]:
        """Return (): weights are never hidden here."""
        await trio.lowlevel.checkpoint()
        return ()

    async def history(self) -> tuple[Submission, ...]:
        """Return the kept submissions of all neurons, by block, then hotkey and mechanism."""

        def read() -> tuple[Submission, ...]:
            states = [self._files.read(neuron.hotkey) for neuron in self.genesis.neurons]
            found = [submission for state in states for submission in state.history]
            return tuple(sorted(found, key=lambda one: (one.block, one.hotkey, one.mechanism)))

        return await self._offload(read)

    async def set_weights(
        self,
        signer: HotkeySigner,
        vector: WeightVector,
        *,
        mechanism: int = 0,
        version_key: int = 0,
    ) -> Submitted:
        """Sign and include a call; raises `ChainError` with the first check that fails.

        `Stale` if another process used the same hotkey meanwhile; `malformed_call` for figures
        that fit no call (a negative uid).
        """

        def sign_and_include() -> Submitted:
            hotkey = signer.public_key
            call = WeightsCall(
                genesis=self._digest,
                netuid=self.genesis.netuid,
                mechanism=mechanism,
                version_key=version_key,
                uids=tuple(uid for uid, _ in vector),
                values=tuple(value for _, value in vector),
                nonce=self._files.read(hotkey).nonce,
            )
            require_well_formed(call)
            return self._include(call, hotkey, signer.sign(call.signing_payload))

        return await self._offload(sign_and_include)

    async def include(self, call: WeightsCall, hotkey: bytes, signature: bytes) -> Submitted:
        """Include a call that was signed elsewhere; errors as for `set_weights`, and `BadProof`."""
        return await self._offload(lambda: self._include(call, hotkey, signature))

    async def _offload(self, work: Callable[[], T]) -> T:
        if not self._in_thread:
            await trio.lowlevel.checkpoint()
            return work()
        return await trio.to_thread.run_sync(
            work,
            limiter=self._limiter,
            # trio-typing's outdated stubs, installed by libp2p, shadow trio's own types.
            abandon_on_cancel=True,  # type: ignore[call-arg, unused-ignore]
        )

    def _head(self) -> Block:
        elapsed_ms = max(0, self._now_ms() - self.genesis.start_ms)
        return self._block(elapsed_ms // self.genesis.block_time_ms)

    def _block(self, number: int) -> Block:
        return Block(number, sha256(BLOCK_DOMAIN, self._digest, number.to_bytes(8, "big")))

    def _require_known(self, block_number: int) -> None:
        head = self._head().number
        if not 0 <= block_number <= head:
            raise ChainError(
                ChainErrorCode.UNKNOWN_BLOCK,
                f"block {block_number}, the head is {head}; ask again when it has passed",
            )

    def _metagraph(self, block_number: int) -> Metagraph:
        neurons = tuple(
            Neuron(
                uid=uid,
                hotkey=neuron.hotkey,
                stake=neuron.stake,
                validator_permit=neuron.validator_permit,
                last_update=self._files.read(neuron.hotkey).last_update(0, block_number),
            )
            for uid, neuron in enumerate(self.genesis.neurons)
        )
        return self._graph(self._block(block_number), neurons)

    def _graph(self, block: Block, neurons: tuple[Neuron, ...]) -> Metagraph:
        return Metagraph(
            netuid=self.genesis.netuid,
            block=block,
            neurons=neurons,
            owner_hotkey=self.genesis.owner_hotkey,
            rules=self.genesis.rules,
        )

    async def _state_of(self, uid: int) -> HotkeyState:
        if not 0 <= uid < len(self.genesis.neurons):
            raise ChainError(
                ChainErrorCode.UNKNOWN_UID,
                f"uid {uid}, subnet {self.genesis.netuid} has {len(self.genesis.neurons)}",
            )
        hotkey = self.genesis.neurons[uid].hotkey
        return await self._offload(lambda: self._files.read(hotkey))

    def _include(self, call: WeightsCall, hotkey: bytes, signature: bytes) -> Submitted:
        require_well_formed(call)
        verify_call(call, hotkey, signature)
        self._require_this_chain(call)
        if all(neuron.hotkey != hotkey for neuron in self.genesis.neurons):
            # No file is made for strangers; the checks refuse them, if not earlier for the shape.
            fresh = HotkeyState(genesis=self._digest.hex(), hotkey=hotkey.hex())
            self._checked(call, hotkey, fresh, self._head())
        with self._files.locked(hotkey) as state:
            if call.nonce != state.nonce:
                raise ChainError(
                    ChainErrorCode.STALE,
                    f"call {call.reference} of {ss58_of(hotkey)} has nonce {call.nonce}, the next "
                    f"is {state.nonce}; read what the chain stores, then sign again",
                )
            block = self._head()
            submission = Submission(
                epoch=epoch_status_at(block.number, self.genesis.tempo).epoch,
                block=block.number,
                hotkey=hotkey.hex(),
                mechanism=call.mechanism,
                version_key=call.version_key,
                vector=self._checked(call, hotkey, state, block),
            )
            self._files.replace(hotkey, state.including(submission))
        return Submitted(block=block, reference=call.reference)

    def _require_this_chain(self, call: WeightsCall) -> None:
        if (call.genesis, call.netuid) != (self._digest, self.genesis.netuid):
            raise ChainError(
                ChainErrorCode.BAD_PROOF,
                f"call {call.reference} is for genesis {call.genesis.hex()}, subnet {call.netuid}; "
                f"this is {self._digest.hex()}, subnet {self.genesis.netuid}",
            )

    def _checked(
        self, call: WeightsCall, hotkey: bytes, state: HotkeyState, block: Block
    ) -> WeightVector:
        neurons = tuple(
            Neuron(uid, neuron.hotkey, neuron.stake, neuron.validator_permit, 0)
            for uid, neuron in enumerate(self.genesis.neurons)
        )
        return checked_weights(
            self._graph(block, neurons),
            CallUnderCheck(
                hotkey=hotkey,
                uids=call.uids,
                values=call.values,
                mechanism=call.mechanism,
                version_key=call.version_key,
                block=block.number,
                last_update=state.last_update(call.mechanism),
                rate_limit=self.genesis.weights_rate_limit,
            ),
        )
