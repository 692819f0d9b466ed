"""What a restarted development chain goes on from: one file, rewritten after every block.

The last blocks are kept with their states, and the hashes of those before them, which the life of
an extrinsic may begin at. The pool is not kept, as that of a node is not. A killed process leaves
the file of the block before; against a loss of power nothing is done.
"""

from __future__ import annotations

from pathlib import Path

from chain.devchain.errors import DevChainError
from chain.devchain.extrinsics import parsed
from chain.devchain.ledger import Ledger, SealedBlock, sealed
from chain.devchain.pool import Waiting
from chain.devchain.state import State
from protocol.codec import U16, U32, U64, Digest, Record, decode, encode
from protocol.errors import ProtocolError

FORMAT = 1
KEPT_BLOCKS = 8
KEPT_HASHES = 512
_MOST_BYTES = 256 * 1024 * 1024


class SavedExtrinsic(Record, frozen=True):
    """An included extrinsic and the block that its signature was checked against."""

    data: bytes
    birth: U64
    birth_hash: Digest


class SavedBlock(Record, frozen=True):
    """A block as far as it cannot be computed from the others."""

    parent_hash: Digest
    fork: U32
    state: State
    events: bytes
    included: tuple[SavedExtrinsic, ...]


class SavedChain(Record, frozen=True):
    """Blocks in ascending order. `older_hashes` ends right before the first of them."""

    format: U16
    genesis: Digest
    fork: U32
    final: U64
    blocks: tuple[SavedBlock, ...]
    older_hashes: tuple[Digest, ...]


def save(path: Path, ledger: Ledger) -> None:
    """Write the chain's end; raises `DevChainError` if it cannot be written."""
    head = ledger.head.number
    first = max(1, min(head - KEPT_BLOCKS + 1, ledger.final.number))
    blocks = [ledger.block(number) for number in range(first, head + 1)]
    older = [ledger.hash_at(number) for number in range(max(0, first - KEPT_HASHES), first)]
    chain = SavedChain(
        format=FORMAT,
        genesis=ledger.genesis.hash,
        fork=ledger.fork,
        final=ledger.final.number,
        blocks=tuple(_saved(block) for block in blocks if block is not None),
        older_hashes=tuple(one for one in older if one is not None),
    )
    aside = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(encode(chain))
        aside.replace(path)
    except OSError as error:
        raise DevChainError(f"{path}: {error}; make room or correct the rights") from error


def load(path: Path, ledger: Ledger) -> bool:
    """Let `ledger`, still at its genesis, go on from the file; False if there is none.

    Raises `DevChainError` for a file that is damaged or of another subnet.
    """
    try:
        chain = decode(SavedChain, path.read_bytes(), limit_bytes=_MOST_BYTES)
    except FileNotFoundError:
        return False
    except (OSError, ProtocolError) as error:
        raise DevChainError(f"{path}: {error}") from error
    if (chain.format, chain.genesis) != (FORMAT, ledger.genesis.hash):
        raise DevChainError(
            f"{path}: genesis {chain.genesis.hex()}, format {chain.format}; this subnet's is "
            f"{ledger.genesis.hash.hex()}, format {FORMAT}: use another file or the same subnet"
        )
    if not chain.blocks:
        return False
    blocks = [_restored(block, ledger) for block in chain.blocks]
    start = blocks[0].number - len(chain.older_hashes)
    older = dict(enumerate(chain.older_hashes, start))
    ledger.restore(blocks, older, chain.final, chain.fork)
    return True


def _saved(block: SealedBlock) -> SavedBlock:
    return SavedBlock(
        parent_hash=block.parent_hash,
        fork=block.fork,
        state=block.state,
        events=block.events,
        included=tuple(
            SavedExtrinsic(data=one.extrinsic.data, birth=one.birth, birth_hash=one.birth_hash)
            for one in block.included
        ),
    )


def _restored(saved: SavedBlock, ledger: Ledger) -> SealedBlock:
    included = tuple(
        Waiting(parsed(one.data, ledger.codec), one.birth, one.birth_hash) for one in saved.included
    )
    return sealed(saved.state, saved.parent_hash, saved.fork, saved.events, included)
