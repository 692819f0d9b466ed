"""The chain of blocks: what is included, what becomes final, what a reorganisation undoes.

Rules:
1. There is one chain at a time. A reorganisation takes back blocks that are not final and makes
   at least one more in their place; their extrinsics wait again, or are lost.
2. Making a block: reveals first, then the epoch, then the waiting extrinsics. One that is no
   longer valid is dropped from the pool; one that fails uses up its nonce all the same.
3. The last `KEPT_BLOCKS` blocks are kept, and the genesis.
4. Nothing here waits or looks at a clock. What happened is returned as notices, for whoever
   watches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from chain.devchain.calls import Event, check_in_pool, dispatched, event
from chain.devchain.commits import Reveal, revealed_by_chain, without_due
from chain.devchain.epochs import stepped
from chain.devchain.errors import DevChainError, DispatchRefusedError, PoolRefusedError, invalid
from chain.devchain.extrinsics import Extrinsic, parsed
from chain.devchain.knobs import Knobs
from chain.devchain.metadata import Codec
from chain.devchain.pool import Pool, Waiting
from chain.devchain.scale import blake2_256, compact
from chain.devchain.state import State
from protocol.codec import encode
from protocol.identity import ss58_of

KEPT_BLOCKS = 4096
KEPT_REVEALS = 256
BLOCK_EXTRINSICS = 512

_INFO = {"weight": {"ref_time": 0, "proof_size": 0}, "class": "Normal", "pays_fee": "No"}


@dataclass(frozen=True, slots=True)
class SealedBlock:
    """A block, with the state after it and its events, encoded."""

    number: int
    hash: bytes
    parent_hash: bytes
    state_root: bytes
    extrinsics_root: bytes
    fork: int
    state: State
    events: bytes
    included: tuple[Waiting, ...] = ()

    @property
    def header(self) -> dict[str, Any]:
        """The header as JSON-RPC shows it."""
        return {
            "parentHash": hexed(self.parent_hash),
            "number": hex(self.number),
            "stateRoot": hexed(self.state_root),
            "extrinsicsRoot": hexed(self.extrinsics_root),
            "digest": {"logs": [hexed(_digest_item(self.fork))]},
        }


@dataclass(frozen=True, slots=True)
class NewHead:
    """`block` is the best one now."""

    block: SealedBlock


@dataclass(frozen=True, slots=True)
class Finalised:
    """`block` and all before it are final now."""

    block: SealedBlock


@dataclass(frozen=True, slots=True)
class Watched:
    """What became of an extrinsic, in the words of `author_submitAndWatchExtrinsic`."""

    extrinsic_hash: bytes
    status: str | dict[str, str]


Notice = NewHead | Finalised | Watched


def hexed(data: bytes) -> str:
    """Return `data` as JSON-RPC shows bytes."""
    return "0x" + data.hex()


def _digest_item(fork: int) -> bytes:
    # DigestItem::Other; it makes the blocks of two forks differ when nothing else does.
    return b"\x00" + compact(4) + fork.to_bytes(4, "little")


def sealed(
    state: State,
    parent_hash: bytes,
    fork: int,
    events: bytes,
    included: tuple[Waiting, ...] = (),
) -> SealedBlock:
    """Return the block with `state` after it."""
    state_root = blake2_256(encode(state))
    extrinsics_root = blake2_256(b"".join(one.extrinsic.hash for one in included))
    header = parent_hash + compact(state.block) + state_root + extrinsics_root
    return SealedBlock(
        number=state.block,
        hash=blake2_256(header + compact(1) + _digest_item(fork)),
        parent_hash=parent_hash,
        state_root=state_root,
        extrinsics_root=extrinsics_root,
        fork=fork,
        state=state,
        events=events,
        included=included,
    )


class Ledger:
    """The blocks from `genesis` on, and the pool. See the module's rules."""

    def __init__(self, genesis: State, codec: Codec, knobs: Knobs, finality_lag: int = 0) -> None:
        self.codec = codec
        self.knobs = knobs
        self.finality_lag = finality_lag
        self.pool = Pool()
        self.fork = 0
        self.reveals: deque[tuple[int, Reveal]] = deque(maxlen=KEPT_REVEALS)
        self.genesis = sealed(genesis, bytes(32), 0, self._encoded([]))
        self._blocks = {0: self.genesis}
        self._older_hashes: dict[int, bytes] = {}
        self._numbers = {self.genesis.hash: 0}
        self._head = self._final = self.genesis

    @property
    def head(self) -> SealedBlock:
        """The newest block."""
        return self._head

    @property
    def final(self) -> SealedBlock:
        """The newest final block."""
        return self._final

    def block(self, number: int) -> SealedBlock | None:
        """Return the block, None if there is none (any more)."""
        return self._blocks.get(number)

    def block_of(self, block_hash: bytes) -> SealedBlock | None:
        """Return the block with this hash, None if it is not on the chain (any more)."""
        number = self._numbers.get(block_hash)
        return None if number is None else self._blocks[number]

    def hash_at(self, number: int) -> bytes | None:
        """Return the hash of a block, also of one that was made before a restart."""
        block = self._blocks.get(number)
        return self._older_hashes.get(number) if block is None else block.hash

    def restore(
        self, blocks: list[SealedBlock], older_hashes: dict[int, bytes], final: int, fork: int
    ) -> None:
        """Go on after `blocks` (at least one), the last of which becomes the head."""
        for block in blocks:
            self._append(block)
        self._older_hashes = older_hashes
        self._final = self._blocks[final]
        self.fork = fork

    def next_nonce(self, account: bytes) -> int:
        """Return the nonce for the account's next extrinsic, counting those that wait."""
        found = self._head.state.account(account)
        return self.pool.next_nonce(account, 0 if found is None else found.nonce)

    def submit(self, data: bytes) -> tuple[Extrinsic, str]:
        """Take an extrinsic; return it with its status. Raises `RpcError` for what is refused."""
        extrinsic = parsed(data, self.codec)
        waiting = self._validated(extrinsic)
        self.pool.check_room(extrinsic)
        if self.knobs.swallow > 0:
            self.knobs.swallow -= 1
            return extrinsic, "ready"
        self.pool.add(waiting)
        ready = extrinsic.nonce < self.next_nonce(extrinsic.signer)
        return extrinsic, "ready" if ready else "future"

    def produce(
        self, timestamp_ms: int, change: Callable[[State], State] | None = None
    ) -> list[Notice]:
        """Make the next block; the time is that of the block, in ms since the Unix epoch.

        `change` is made to the state before anything else, and undone with the block.
        """
        parent = self._head
        number = parent.number + 1
        timestamp_ms = max(timestamp_ms, parent.state.timestamp_ms + 1)
        state = replace(parent.state, block=number, timestamp_ms=timestamp_ms)
        if change is not None:
            state = change(state)
        state, events = self._begun(state, number)
        included: list[Waiting] = []
        notices: list[Notice] = []
        for waiting in self.pool.in_order():
            if len(included) == BLOCK_EXTRINSICS:
                break
            turn = self._turn(waiting, state, number)
            if turn == "later":
                continue
            self.pool.remove(waiting)
            if turn == "invalid":
                notices.append(Watched(waiting.extrinsic.hash, turn))
                continue
            state, made = self._executed(state, waiting.extrinsic, number)
            events += [_record({"ApplyExtrinsic": len(included)}, one) for one in made]
            included.append(waiting)
        block = sealed(state, parent.hash, self.fork, self._encoded(events), tuple(included))
        self._append(block)
        notices.append(NewHead(block))
        where = hexed(block.hash)
        notices += [Watched(one.extrinsic.hash, {"inBlock": where}) for one in included]
        return notices + self._finalise()

    def jump(self, blocks: int, timestamp_ms: int) -> list[Notice]:
        """Make many blocks at once; of the heads only the last ones are announced."""
        notices: list[Notice] = []
        step = self.genesis.state.block_time_ms
        for passed in range(blocks):
            made = self.produce(timestamp_ms + passed * step)
            quiet = [one for one in notices if isinstance(one, Watched)]
            notices = quiet + made
        return notices

    def reorganise(self, depth: int, timestamp_ms: int, *, lose: bool = False) -> list[Notice]:
        """Replace the last `depth` blocks by one more than that.

        Their extrinsics wait again (and may be included in the first new block), or are lost.
        Raises `DevChainError` if one of the blocks is final.
        """
        if not 1 <= depth <= self._head.number - self._final.number:
            raise DevChainError(
                f"{depth} blocks cannot be taken back: the head is {self._head.number} and "
                f"{self._final.number} is final; raise the finality lag or pause finality"
            )
        notices: list[Notice] = []
        self.fork += 1
        for number in range(self._head.number, self._head.number - depth, -1):
            undone = self._blocks.pop(number)
            del self._numbers[undone.hash]
            for waiting in undone.included:
                status = {"retracted": hexed(undone.hash)}
                notices.append(Watched(waiting.extrinsic.hash, status))
                if not lose:
                    self.pool.add(waiting)
        self._head = self._blocks[self._head.number - depth]
        return notices + self.jump(depth + 1, timestamp_ms)

    def _append(self, block: SealedBlock) -> None:
        self._blocks[block.number] = block
        self._numbers[block.hash] = block.number
        self._head = block
        old = self._blocks.pop(block.number - KEPT_BLOCKS, None) if block.number else None
        if old is not None and old.number:
            self._numbers.pop(old.hash, None)
        self._blocks[0] = self.genesis

    def _finalise(self) -> list[Notice]:
        notices: list[Notice] = []
        if self.knobs.finality_paused:
            return notices
        for number in range(self._final.number + 1, self._head.number - self.finality_lag + 1):
            block = self._blocks[number]
            self._final = block
            notices.append(Finalised(block))
            status = {"finalized": hexed(block.hash)}
            notices += [Watched(one.extrinsic.hash, status) for one in block.included]
        return notices

    def _begun(self, state: State, number: int) -> tuple[State, list[Event]]:
        if self.knobs.drop_reveals:
            state = without_due(state, number)
        state, reveals = revealed_by_chain(state, number)
        self.reveals.extend((number, reveal) for reveal in reveals)
        shown = [
            event(
                "TimelockedWeightsRevealed", state.storage_index(one.mechanism), ss58_of(one.hotkey)
            )
            for one in reveals
            if one.failure is None
        ]
        return stepped(state, number), [_record("Initialization", one) for one in shown]

    def _validated(self, extrinsic: Extrinsic) -> Waiting:
        head = self._head
        account = head.state.account(extrinsic.signer)
        if account is None:
            raise invalid("Inability to pay some fees (e.g. account balance too low)")
        birth = extrinsic.mortality.birth(head.number)
        born = self.hash_at(birth)
        if born is None:
            raise invalid("Transaction has an ancient birth block")
        extrinsic.check_signature(self.genesis.hash, born)
        if extrinsic.nonce < account.nonce:
            raise invalid("Transaction is outdated")
        if self.knobs.pool_checks:
            check_in_pool(head.state, extrinsic.call, head.number + 1)
        return Waiting(extrinsic, birth, born)

    def _turn(self, waiting: Waiting, state: State, number: int) -> str:
        """Return whether it goes into block `number`: "now", "later", or that it is "invalid"."""
        extrinsic = waiting.extrinsic
        account = state.account(extrinsic.signer)
        alive = extrinsic.mortality.is_alive(waiting.birth, number)
        same_fork = self.hash_at(waiting.birth) == waiting.birth_hash
        if account is None or extrinsic.nonce < account.nonce or not alive or not same_fork:
            return "invalid"
        if extrinsic.nonce > account.nonce:
            return "later"
        if self.knobs.pool_checks:
            try:
                check_in_pool(state, extrinsic.call, number)
            except PoolRefusedError:
                return "invalid"
        return "now"

    def _executed(
        self, state: State, extrinsic: Extrinsic, number: int
    ) -> tuple[State, tuple[Event, ...]]:
        account = state.account(extrinsic.signer)
        assert account is not None, "only accounts have extrinsics in the pool"
        state = state.with_account(replace(account, nonce=account.nonce + 1))
        try:
            state, events = dispatched(state, extrinsic.call, number)
        except DispatchRefusedError as error:
            details = {"dispatch_error": self.codec.module_error(error.name)}
            return state, ({"System": {"ExtrinsicFailed": {**details, "dispatch_info": _INFO}}},)
        return state, (*events, {"System": {"ExtrinsicSuccess": {"dispatch_info": _INFO}}})

    def _encoded(self, events: list[Event]) -> bytes:
        return self.codec.value("System", "Events", events)


def _record(phase: object, made: Event) -> Event:
    return {"phase": phase, "event": made, "topics": []}
