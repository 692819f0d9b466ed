"""Building a whole state tree at once, from its leaves in the order of their places.

`storage.state_nodes` works changes into a tree; this is for a state that arrives as a whole. Each
node is given out once, when nothing below it can come any more, so that memory does not grow with
the state: what waits is one hash for each level of the current way down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from protocol.codec import sha256
from protocol.state_proof import BRANCH_PREFIX, EMPTY, LEAF_PREFIX, MAX_DEPTH
from storage.errors import StateError
from storage.state_nodes import ROOT_PATH

Leaf = tuple[bytes, bytes]
"""A key's place and the hash of its value."""


def build_tree(leaves: Iterable[Leaf], write: Callable[[int, bytes], None]) -> bytes:
    """Return the root of the tree with `leaves`, handing each node to `write` with its path.

    Raises `StateError` unless the places strictly ascend.
    """
    waiting: dict[int, bytes] = {}
    """Depth of a branch that is not complete -> the hash on its left side."""
    root = EMPTY
    for leaf, above, below in _with_forks(leaves):
        place = int.from_bytes(leaf[0])

        def path_at(depth: int, place: int = place) -> int:
            return ROOT_PATH << depth | place >> (MAX_DEPTH - depth)

        depth = max(above, below) + 1
        node = LEAF_PREFIX + leaf[0] + leaf[1]
        write(path_at(depth), node)
        known = sha256(node)
        while depth - 1 > below:  # the next leaf lies outside the branch above: it is complete
            depth -= 1
            if place >> (MAX_DEPTH - 1 - depth) & 1:
                node = BRANCH_PREFIX + waiting.pop(depth, EMPTY) + known
            else:
                node = BRANCH_PREFIX + known + EMPTY
            write(path_at(depth), node)
            known = sha256(node)
        if below < 0:
            root = known
        else:
            waiting[below] = known
    return root


def _with_forks(leaves: Iterable[Leaf]) -> Iterator[tuple[Leaf, int, int]]:
    """Yield each leaf with the number of bits its place shares with the last and the next one.

    -1 stands for none: the first leaf has no last one, the last has no next.
    """
    rows = iter(leaves)
    leaf = next(rows, None)
    above = -1
    while leaf is not None:
        following = next(rows, None)
        below = -1 if following is None else _shared_bits(leaf[0], following[0])
        yield leaf, above, below
        leaf, above = following, below


def _shared_bits(first: bytes, second: bytes) -> int:
    if first >= second:
        raise StateError(f"state tree: place {second.hex()} does not follow {first.hex()}")
    return MAX_DEPTH - (int.from_bytes(first) ^ int.from_bytes(second)).bit_length()
