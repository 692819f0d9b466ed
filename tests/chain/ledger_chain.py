"""The development chain's ledger as a `Chain`, without sockets: real calls and drand, trio's time.

A block is made for each second of trio's clock, so the autojump clock drives it. The node under
test reads final blocks; `admin` turns the development chain's own knobs. Weights travel as signed
extrinsics: plain calls, or with commit-reveal timelocked commits for a drand round whose signature
`reveal` makes known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from chain.devchain.admin import Admin
from chain.devchain.epochs import next_epoch_block
from chain.devchain.errors import RpcError
from chain.devchain.ledger import SealedBlock
from chain.errors import ChainError, ChainErrorCode
from chain.interface import (
    Block,
    EpochStatus,
    HotkeySigner,
    Metagraph,
    PendingCommit,
    Submitted,
    WeightVector,
)
from tests.chain.devchain.support import (
    DRAND_ROUND,
    DRAND_SIGNATURE,
    KEYS,
    ledger,
    sealed_commit,
    signed,
)

BLOCK_S = 1.0


class LedgerChain:
    """A `Chain` over a development ledger. Hotkeys are those of `tests.chain.support`."""

    def __init__(self, **rules: Any) -> None:
        self.ledger = ledger(**{"tempo": 20, "weights_rate_limit": 5, **rules})
        self.ledger.knobs.pool_checks = False
        self._admin = Admin(self.ledger, lambda: 0)
        self._due = trio.current_time() + BLOCK_S
        self.sent: list[tuple[int, int]] = []
        """The final block and the mechanism of each call that was made."""
        self.down_until = 0.0
        """Until when nothing answers, on trio's clock."""
        self.after_sign: Callable[[], Any] = _nothing
        """Called when a signed call is in the pool and no block has it yet."""

    def admin(self, method: str, *params: object) -> None:
        """Turn a `dev_*` knob."""
        self._advance()
        self._admin.call(method, list(params))

    def reveal(self) -> None:
        """Let the chain know the drand round that opens the commits."""
        self.admin("dev_pulse", DRAND_ROUND, DRAND_SIGNATURE)

    async def head(self) -> Block:
        return self._block(await self._final())

    async def metagraph(self, block_number: int) -> Metagraph:
        block = await self._known(block_number)
        return block.state.metagraph(block.hash)

    async def epoch_status(self, block_number: int) -> EpochStatus:
        state = (await self._known(block_number)).state
        end = next_epoch_block(state)
        assert end is not None
        return EpochStatus(state.epochs.index, state.epochs.last_block, end)

    async def weights_rate_limit(self) -> int:
        return (await self._final()).state.rules.weights_rate_limit

    async def weights_of(self, uid: int, mechanism: int = 0) -> WeightVector:
        return (await self._final()).state.weights_of(uid, mechanism)

    async def last_update_of(self, uid: int, mechanism: int = 0) -> int:
        return (await self._final()).state.last_update(uid, mechanism)

    async def pending_commits(self, hotkey: bytes, mechanism: int = 0) -> tuple[PendingCommit, ...]:
        state = (await self._final()).state
        return tuple(
            PendingCommit(one.block, one.reveal_round)
            for one in state.commits
            if (one.hotkey, one.mechanism) == (hotkey, mechanism)
        )

    async def set_weights(
        self,
        signer: HotkeySigner,
        vector: WeightVector,
        *,
        mechanism: int = 0,
        version_key: int = 0,
    ) -> Submitted:
        final = await self._final()
        self.sent.append((final.number, mechanism))
        uids, values = [uid for uid, _ in vector], [value for _, value in vector]
        who = KEYS.index(signer.public_key)
        if final.state.rules.commit_reveal:
            arguments: dict[str, Any] = {
                "commit": sealed_commit(who, uids, values, version_key=version_key),
                "reveal_round": DRAND_ROUND,
                "commit_reveal_version": 4,
            }
            function = "commit_timelocked_mechanism_weights"
        else:
            arguments = {"dests": uids, "weights": values, "version_key": version_key}
            function = "set_mechanism_weights"
        before = self.ledger.head.number
        data = signed(self.ledger, who, function, mecid=mechanism, **arguments)
        try:
            self.ledger.submit(data)
        except RpcError as error:
            raise ChainError(ChainErrorCode.STALE, str(error)) from error
        await self.after_sign()
        return await self._included(before + 1)

    async def _included(self, number: int) -> Submitted:
        """Return when block `number` has been made, which holds whatever waited before it."""
        while self.ledger.head.number < number:
            await trio.sleep_until(self._due)
            self._advance()
        block = self.ledger.block(number)
        assert block is not None
        runtime = self.ledger.codec.runtime
        kind = runtime.storage_entry("System", "Events").value_type
        made = runtime.decode(kind, block.events)[-1]
        if made["event_id"] == "ExtrinsicFailed":
            module = made["attributes"]["dispatch_error"]["Module"]
            error = bytes.fromhex(module["error"][2:])[0]
            name = runtime.module_error(module["index"], error)[0]
            raise ChainError(ChainErrorCode(name), f"in block {number}")
        return Submitted(self._block(block), "by hand")

    async def _final(self) -> SealedBlock:
        await trio.lowlevel.checkpoint()
        if trio.current_time() < self.down_until:
            raise ChainError(ChainErrorCode.UNREACHABLE, "as the test told")
        self._advance()
        return self.ledger.final

    async def _known(self, number: int) -> SealedBlock:
        final, block = await self._final(), self.ledger.block(number)
        if block is None or number > final.number:
            raise ChainError(ChainErrorCode.UNKNOWN_BLOCK, f"block {number} of {final.number}")
        return block

    def _advance(self) -> None:
        while trio.current_time() >= self._due:
            self.ledger.produce(int(self._due * 1000))
            self._due += BLOCK_S

    def _block(self, block: SealedBlock) -> Block:
        return Block(block.number, block.hash)


async def _nothing() -> None:
    await trio.lowlevel.checkpoint()
