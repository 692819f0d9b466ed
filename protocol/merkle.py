"""Merkle trees over an ordered list, in the form of RFC 6962 (section 2.1).

A statement signs the root of its items once instead of each item; a path shows that one item is
among them.

Rules:
1. A leaf is `sha256(0x00 | data)` and a node `sha256(0x01 | left | right)`: the two prefixes keep a
   node from being shown as a leaf. The root of no leaves is `sha256("")`.
2. `n` leaves are split at the largest power of two below `n`. Pairing each level from the left and
   carrying an odd last node up unchanged builds the same tree, which is how it is done here.
3. For one (root, leaf, index, count) exactly one path verifies: its length follows from index and
   count, and a path that is shorter, longer or different is refused.
4. The root does not commit to `count`, and without it a place in an unbalanced tree has more than
   one name (leaf 2 of 3 has the same path as leaf 1 of 2). Whoever relies on the index signs the
   count beside the root and hands it to `verify_path`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from protocol.codec import U32, Digest, Record, sha256
from protocol.errors import ProofError

LEAF_PREFIX = b"\x00"
NODE_PREFIX = b"\x01"
EMPTY_ROOT = sha256(b"")
"""The root of a tree without leaves."""

MAX_SIBLINGS = 32
"""The longest path: `count` is below 2**32."""


class MerklePath(Record):
    """The way from leaf `index` of `count` up to the root: the siblings, lowest first."""

    index: U32
    count: U32
    siblings: Annotated[tuple[Digest, ...], Meta(max_length=MAX_SIBLINGS)]


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf that holds `data`."""
    return sha256(LEAF_PREFIX, data)


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node above `left` and `right`."""
    return sha256(NODE_PREFIX, left, right)


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over `leaves` (their data, not their hashes), in the order given."""
    if not leaves:
        return EMPTY_ROOT
    level = [leaf_hash(leaf) for leaf in leaves]
    while len(level) > 1:
        level = _level_above(level)
    return level[0]


def merkle_path(leaves: Sequence[bytes], index: int) -> MerklePath:
    """Return the path of leaf `index` of `leaves`. Raises `IndexError` when there is none."""
    count = len(leaves)
    if not 0 <= index < count:
        raise IndexError(f"Merkle path: leaf {index} of {count}")
    siblings: list[bytes] = []
    level = [leaf_hash(leaf) for leaf in leaves]
    place = index
    while len(level) > 1:
        beside = place ^ 1
        if beside < len(level):
            siblings.append(level[beside])
        level = _level_above(level)
        place >>= 1
    return MerklePath(index=index, count=count, siblings=tuple(siblings))


def verify_path(root: bytes, leaf: bytes, path: MerklePath, *, count: int | None = None) -> None:
    """Check that `leaf` (its data) is leaf `path.index` of the tree with this `root`.

    `count` is the number of leaves where it is known from a signed place (rule 4). Raises
    `ProofError`, naming the reason, when anything does not hold. The walk is RFC 9162, 2.1.3.2.
    """
    if count is not None and path.count != count:
        raise ProofError(f"Merkle path: for a tree of {path.count} leaves, expected {count}")
    if not 0 <= path.index < path.count:
        raise ProofError(f"Merkle path: leaf {path.index} of {path.count} does not exist")
    place, last = path.index, path.count - 1
    node = leaf_hash(leaf)
    for sibling in path.siblings:
        if last == 0:
            raise ProofError(
                f"Merkle path: {len(path.siblings)} siblings are too many for leaf {path.index} "
                f"of {path.count}"
            )
        if place & 1 or place == last:
            node = node_hash(sibling, node)
            # An odd last node was carried up unchanged: skip the levels where it had no sibling.
            while not place & 1:
                place >>= 1
                last >>= 1
        else:
            node = node_hash(node, sibling)
        place >>= 1
        last >>= 1
    if last != 0:
        raise ProofError(
            f"Merkle path: {len(path.siblings)} siblings are too few for leaf {path.index} "
            f"of {path.count}"
        )
    if node != root:
        raise ProofError(f"Merkle path: leads to root {node.hex()}, expected {root.hex()}")


def _level_above(level: list[bytes]) -> list[bytes]:
    above = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    if len(level) & 1:
        above.append(level[-1])
    return above
