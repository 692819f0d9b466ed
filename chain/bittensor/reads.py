"""What the node reads of a subnet, each value at the hash of one finalised block.

Rules:
1. The finalised head is asked for first; whatever is not at or below it is `unknown_block`. All
   values of an answer are read at one hash, so that no two blocks are mixed.
2. Storage that belongs to a mechanism is kept under mechanism * 4096 + netuid.
3. What the chain answers is checked where it is turned into this node's types; what does not fit
   is `unexpected`, with the field's name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from chain.errors import ChainError
from chain.errors import ChainErrorCode as Code
from chain.interface import (
    MAX_WEIGHT,
    Block,
    EpochStatus,
    Metagraph,
    Neuron,
    PendingCommit,
    SubnetRules,
    WeightVector,
)
from protocol.errors import KeyFormatError
from protocol.identity import hotkey_of, ss58_of

T = TypeVar("T")
Substrate = Any  # bittensor.RpcSubstrate; the SDK is imported late and has no types worth having

PALLET = "SubtensorModule"
SUBNETS = "SubnetInfoRuntimeApi"
MECHANISM_STRIDE = 4096
NO_EPOCH_BLOCKS = 1 << 62
"""How far away the next epoch of a subnet with tempo 0 is said to be: it never comes."""

_MALFORMED = (KeyError, TypeError, ValueError, IndexError, KeyFormatError)


def storage_index(netuid: int, mechanism: int) -> int:
    """Return the number under which the chain stores what belongs to a mechanism."""
    return mechanism * MECHANISM_STRIDE + netuid


def block_hash_of(text: str) -> bytes:
    """Return the 32 bytes of a block hash as JSON-RPC shows it."""
    found = bytes.fromhex(text.removeprefix("0x"))
    if len(found) != 32:
        raise ChainError(Code.UNEXPECTED, f"block hash {text!r}: {len(found)} bytes, want 32")
    return found


async def finalised_head(substrate: Substrate) -> Block:
    """Return the newest finalised block of the endpoint."""
    number = int(await substrate.finalized_block_number())
    return Block(number, block_hash_of(await substrate.block_hash(number)))


async def finalised_block(substrate: Substrate, number: int) -> Block:
    """Return the finalised block `number`; `unknown_block` if it is not finalised (yet)."""
    head = await finalised_head(substrate)
    if not 0 <= number <= head.number:
        raise ChainError(
            Code.UNKNOWN_BLOCK,
            f"block {number}, the newest finalised one is {head.number}; ask again when it has "
            "passed",
        )
    if number == head.number:
        return head
    return Block(number, block_hash_of(await substrate.block_hash(number)))


async def metagraph(substrate: Substrate, netuid: int, number: int) -> Metagraph:
    """Return the subnet after the finalised block `number`; `SubnetNotExists` if there is none."""
    block = await finalised_block(substrate, number)
    at = _hexed(block)
    graph = await substrate.runtime_call(SUBNETS, "get_metagraph", [netuid], block_hash=at)
    if graph is None:
        raise _no_subnet(netuid, block)
    min_stake = await _item(substrate, "StakeThreshold", [], at)
    mechanisms = await _item(substrate, "MechanismCountCurrent", [netuid], at)
    return _fitting(
        lambda: Metagraph(
            netuid=netuid,
            block=block,
            neurons=_neurons(graph),
            owner_hotkey=hotkey_of(str(graph["owner_hotkey"])),
            rules=SubnetRules(
                min_stake=int(min_stake or 0),
                version_key=int(graph["weights_version"]),
                mechanisms=int(mechanisms or 1),
                min_allowed_weights=int(graph["min_allowed_weights"]),
                max_weight_limit=min(int(graph["max_weights_limit"]), MAX_WEIGHT),
                commit_reveal=bool(graph["commit_reveal_weights_enabled"]),
            ),
        ),
        f"metagraph of subnet {netuid} at block {number}",
    )


async def epoch_status(substrate: Substrate, netuid: int, number: int) -> EpochStatus:
    """Return the epoch after the finalised block `number`, as the chain's own clock says."""
    block = await finalised_block(substrate, number)
    at = _hexed(block)
    await _require_subnet(substrate, netuid, block)
    index = await _item(substrate, "SubnetEpochIndex", [netuid], at)
    last = await _item(substrate, "LastEpochBlock", [netuid], at)
    coming = await substrate.runtime_call(
        SUBNETS, "get_next_epoch_start_block", [netuid], block_hash=at
    )
    first = int(last or 0)
    # The forecast of an epoch that is due already lies at or before this block.
    ahead = NO_EPOCH_BLOCKS if coming is None else max(int(coming), number + 1)
    return EpochStatus(epoch=int(index or 0), first_block=first, next_epoch_block=ahead)


async def weights_of(substrate: Substrate, netuid: int, uid: int, mechanism: int) -> WeightVector:
    """Return what is stored for `uid` at the finalised head, in stored order."""
    block = await finalised_head(substrate)
    await _require_uid(substrate, netuid, uid, block)
    index = storage_index(netuid, mechanism)
    row = await _item(substrate, "Weights", [index, uid], _hexed(block))
    return _fitting(
        lambda: tuple((int(target), int(value)) for target, value in row or ()),
        f"weights of uid {uid}",
    )


async def last_update_of(substrate: Substrate, netuid: int, uid: int, mechanism: int) -> int:
    """Return the block of the last weights or commit of `uid` at the finalised head, 0 if never."""
    block = await finalised_head(substrate)
    await _require_uid(substrate, netuid, uid, block)
    index = storage_index(netuid, mechanism)
    updates: Sequence[int] = await _item(substrate, "LastUpdate", [index], _hexed(block)) or ()
    return int(updates[uid]) if uid < len(updates) else 0


async def weights_rate_limit(substrate: Substrate, netuid: int) -> int:
    """Return the least distance in blocks between two weight calls of one hotkey."""
    block = await finalised_head(substrate)
    await _require_subnet(substrate, netuid, block)
    return int(await _item(substrate, "WeightsSetRateLimit", [netuid], _hexed(block)) or 0)


async def pending_commits(
    substrate: Substrate, netuid: int, hotkey: bytes, mechanism: int
) -> tuple[PendingCommit, ...]:
    """Return the hotkey's commits that wait at the finalised head, by ascending block.

    Timelocked ones are kept by the epoch of the commit, hash commits by the hotkey.
    """
    at = _hexed(await finalised_head(substrate))
    index, address = storage_index(netuid, mechanism), ss58_of(hotkey)
    queues = await substrate.query_map(PALLET, "TimelockedWeightCommits", [index], block_hash=at)
    hashes = await _item(substrate, "WeightCommits", [index, address], at)
    return _fitting(
        lambda: tuple(
            sorted(
                [
                    PendingCommit(int(block), int(drand_round))
                    for _epoch, queue in queues
                    for owner, block, _sealed, drand_round in queue
                    if owner == address
                ]
                + [PendingCommit(int(block)) for _digest, _epoch, block, _last in hashes or ()],
                key=lambda one: (one.block, one.reveal_round),
            )
        ),
        f"commits of {address}",
    )


def _neurons(graph: dict[str, Any]) -> tuple[Neuron, ...]:
    columns = ("hotkeys", "total_stake", "validator_permit", "last_update")
    rows = zip(*(graph[name] for name in columns), strict=True)
    return tuple(
        Neuron(
            uid=uid,
            hotkey=hotkey_of(str(hotkey)),
            stake=int(stake),
            validator_permit=bool(permit),
            last_update=int(updated),
        )
        for uid, (hotkey, stake, permit, updated) in enumerate(rows)
    )


async def _require_subnet(substrate: Substrate, netuid: int, block: Block) -> None:
    if not await _item(substrate, "NetworksAdded", [netuid], _hexed(block)):
        raise _no_subnet(netuid, block)


async def _require_uid(substrate: Substrate, netuid: int, uid: int, block: Block) -> None:
    await _require_subnet(substrate, netuid, block)
    size = int(await _item(substrate, "SubnetworkN", [netuid], _hexed(block)) or 0)
    if not 0 <= uid < size:
        raise ChainError(Code.UNKNOWN_UID, f"uid {uid}, subnet {netuid} has {size}")


async def _item(substrate: Substrate, name: str, keys: list[object], at: str) -> Any:  # noqa: ANN401 - decoded storage
    return await substrate.query(PALLET, name, keys, block_hash=at)


def _no_subnet(netuid: int, block: Block) -> ChainError:
    return ChainError(
        Code.SUBNET_NOT_EXISTS,
        f"there is no subnet {netuid} at block {block.number}; check the netuid and the network",
    )


def _hexed(block: Block) -> str:
    return "0x" + block.block_hash.hex()


def _fitting(made: Callable[[], T], what: str) -> T:
    try:
        return made()
    except _MALFORMED as error:
        raise ChainError(Code.UNEXPECTED, f"{what}: {type(error).__name__}: {error}") from error
