"""The nodes of the state tree: how they are stored by path, and how changes are worked in.

Rules:
1. A stored node is the preimage of its hash (`protocol.state_proof`, rule 2): 65 bytes, beginning
   with the leaf or the branch prefix. Empty places are not stored.
2. A node's path is the integer made of a leading 1 and the bits from the root down; the root is 1,
   the children of p are 2p and 2p + 1. The database key is that integer, big-endian.
3. A branch is stored with both hashes below it, so only the nodes on the way to a changed key are
   read; one more where a removal may collapse a branch.
4. Each node read is checked against the hash its parent holds: a database that lost a write raises
   `StateDamagedError` instead of giving a root that no other node has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from protocol.codec import sha256
from protocol.state_proof import (
    BRANCH_PREFIX,
    EMPTY,
    LEAF_PREFIX,
    MAX_DEPTH,
    OtherLeaf,
    StateProof,
    bit_at,
    place_of,
)
from storage.errors import StateDamagedError

ROOT_PATH = 1
NODE_BYTES = 65

Change = tuple[bytes, bytes | None]
"""A key's place and the hash of its new value; None removes the key."""

NodeReader = Callable[[int], bytes | None]
"""Returns the stored node at a path, or None."""


def path_key(path: int) -> bytes:
    """Return the database key of the node at `path`."""
    return path.to_bytes((path.bit_length() + 7) // 8)


def node_hash(node: bytes | None) -> bytes:
    """Return the hash of a stored node, or of an empty place."""
    return EMPTY if node is None else sha256(node)


class TreeUpdate:
    """One walk that works changes into a tree; `writes` then holds every node that differs."""

    def __init__(self, read: NodeReader) -> None:
        self._read = read
        self.writes: dict[int, bytes | None] = {}
        """Path -> the new node, None where one was removed."""

    def apply(self, root: bytes, changes: Iterable[Change]) -> bytes:
        """Work `changes`, at most one a place, into the tree with `root`; return the new root."""
        ordered = sorted(changes)
        if not ordered:
            return root
        return node_hash(self._change(ROOT_PATH, 0, self._load(ROOT_PATH, root), ordered))

    def _change(
        self, path: int, depth: int, node: bytes | None, changes: list[Change]
    ) -> bytes | None:
        """Return the node that stands at `path` after `changes`, all of which lie below it."""
        if node is None or node[:1] == LEAF_PREFIX:
            items = {place: value for place, value in changes if value is not None}
            if node is not None and all(place != node[1:33] for place, _ in changes):
                items[node[1:33]] = node[33:]
            return self._set(path, node, self._build(path, depth, sorted(items.items())))
        split = _split(changes, depth)
        below: list[bytes | None] = [None, None]
        hashes = [node[1:33], node[33:]]
        for side in (0, 1):
            part = changes[:split] if side == 0 else changes[split:]
            if part:
                child = 2 * path + side
                below[side] = self._change(child, depth + 1, self._load(child, hashes[side]), part)
                hashes[side] = node_hash(below[side])
        return self._set(path, node, self._join(path, below, hashes))

    def _join(self, path: int, below: list[bytes | None], hashes: list[bytes]) -> bytes | None:
        """Return the branch over `hashes`, or what it collapses to when a side became empty."""
        left, right = hashes
        if left != EMPTY and right != EMPTY:
            return BRANCH_PREFIX + left + right
        if left == right:
            return None
        side = 0 if left != EMPTY else 1
        child = 2 * path + side
        only = below[side] or self._load(child, hashes[side])
        if only is not None and only[:1] == LEAF_PREFIX:
            self.writes[child] = None
            return only
        return BRANCH_PREFIX + left + right

    def _build(self, path: int, depth: int, items: list[tuple[bytes, bytes]]) -> bytes | None:
        """Return the node over `items` where no node was stored below `path`."""
        if not items:
            return None
        if len(items) == 1:
            return LEAF_PREFIX + items[0][0] + items[0][1]
        split = _split(items, depth)
        hashes = []
        for side in (0, 1):
            child = 2 * path + side
            part = items[:split] if side == 0 else items[split:]
            hashes.append(node_hash(self._set(child, None, self._build(child, depth + 1, part))))
        return BRANCH_PREFIX + hashes[0] + hashes[1]

    def _set(self, path: int, old: bytes | None, new: bytes | None) -> bytes | None:
        if new != old:
            self.writes[path] = new
        return new

    def _load(self, path: int, expected: bytes) -> bytes | None:
        return load_node(self._read, path, expected)


def load_node(read: NodeReader, path: int, expected: bytes) -> bytes | None:
    """Return the node at `path`, None for an empty place, checked against its hash (rule 4)."""
    if expected == EMPTY:
        return None
    node = read(path)
    if node is None:
        raise StateDamagedError(f"state tree: the node at path {path:b} is missing")
    if len(node) != NODE_BYTES or sha256(node) != expected:
        raise StateDamagedError(
            f"state tree: the node at path {path:b} does not hash to {expected.hex()}"
        )
    return node


def prove_key(read: NodeReader, root: bytes, key: bytes) -> StateProof:
    """Return the proof of what the tree with `root` has for `key`, its value or its absence."""
    place = place_of(key)
    siblings: list[bytes] = []
    path, expected = ROOT_PATH, root
    for depth in range(MAX_DEPTH + 1):
        node = load_node(read, path, expected)
        if node is None:
            return StateProof(siblings=tuple(siblings))
        if node[:1] == LEAF_PREFIX:
            other = None if node[1:33] == place else _other_leaf(node)
            return StateProof(siblings=tuple(siblings), other=other)
        hashes = (node[1:33], node[33:])
        side = bit_at(place, depth)
        siblings.append(hashes[1 - side])
        path, expected = 2 * path + side, hashes[side]
    raise StateDamagedError(f"state tree: a branch at depth {MAX_DEPTH}")


def count_leaves(read: NodeReader, root: bytes) -> int:
    """Return the number of leaves below `root`, having checked every node (rule 4)."""
    leaves = 0
    waiting = [(ROOT_PATH, root)]
    while waiting:
        path, expected = waiting.pop()
        node = load_node(read, path, expected)
        if node is None:
            continue
        if node[:1] == LEAF_PREFIX:
            leaves += 1
        else:
            waiting += [(2 * path + 1, node[33:]), (2 * path, node[1:33])]
    return leaves


def state_root(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the root of a state with these (key, value) pairs, computed without a database.

    For snapshots and checks of a whole state; the keys must differ. 64 bytes of memory a key.
    """
    changes = [(place_of(key), sha256(value)) for key, value in items]
    return TreeUpdate(lambda _path: None).apply(EMPTY, changes)


def _other_leaf(node: bytes) -> OtherLeaf:
    return OtherLeaf(place=node[1:33], value_hash=node[33:])


def _split(items: list[tuple[bytes, bytes]] | list[Change], depth: int) -> int:
    """Return the index of the first of the sorted `items` that goes right at `depth`."""
    low, high = 0, len(items)
    while low < high:
        middle = (low + high) // 2
        if bit_at(items[middle][0], depth):
            high = middle
        else:
            low = middle + 1
    return low
