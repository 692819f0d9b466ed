"""Proofs about the replicated state: that a key has a value, or that it has none.

The state is a compact sparse Merkle tree (the Jellyfish tree of Libra without its 16-fold nodes).
This module is the half that needs no database: whoever holds a certified root can check a receipt
with it, offline. `storage.state` builds the tree and the proofs.

Rules:
1. A key's place is `sha256(key)`, 256 bits, the most significant first; 0 is left, 1 is right.
2. Three kinds of node: empty is 32 zero bytes, a leaf `sha256(0x02 | place | sha256(value))`,
   a branch `sha256(0x03 | left | right)`. The prefixes differ from those of `protocol.merkle`.
3. A leaf sits at the shortest prefix of its place that no other key shares. The root is therefore a
   function of the contents alone, never of the order in which they came.
4. A proof lists the siblings from the root down. It has one valid form for one root and key.
5. A key is absent when its way down ends at an empty place, or at the leaf of another key.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from protocol.codec import ZERO_DIGEST, Digest, Record, sha256
from protocol.errors import ProofError

LEAF_PREFIX = b"\x02"
BRANCH_PREFIX = b"\x03"
EMPTY = ZERO_DIGEST
"""The hash of an empty place, and the root of an empty state."""

MAX_DEPTH = 256
"""Two places that share 255 bits have their leaves at this depth, and none lies deeper."""

_DIGEST_BYTES = 32


class OtherLeaf(Record):
    """The leaf found at the end of an absent key's way: another key's place and value hash."""

    place: Digest
    value_hash: Digest


class StateProof(Record):
    """The siblings on the way from the root down to a key's place.

    `other` is set only in a proof of absence that ends at another key's leaf.
    """

    siblings: Annotated[tuple[Digest, ...], Meta(max_length=MAX_DEPTH)]
    other: OtherLeaf | None = None


def place_of(key: bytes) -> bytes:
    """Return the place of `key` in the tree."""
    return sha256(key)


def leaf_hash(place: bytes, value_hash: bytes) -> bytes:
    """Return the hash of the leaf at `place` whose value hashes to `value_hash`."""
    return sha256(LEAF_PREFIX, place, value_hash)


def branch_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the branch above `left` and `right`."""
    return sha256(BRANCH_PREFIX, left, right)


def bit_at(place: bytes, depth: int) -> int:
    """Return bit `depth` of `place`, counted from the most significant: 0 is left, 1 is right."""
    return (place[depth >> 3] >> (7 - (depth & 7))) & 1


def verify_state(root: bytes, key: bytes, value: bytes, proof: StateProof) -> None:
    """Check that `key` has `value` in the state with this `root`.

    Raises `ProofError`, naming the reason, when it does not follow.
    """
    _check_form(proof)
    if proof.other is not None:
        raise ProofError("state proof: shows another key's leaf, so it can only prove absence")
    place = place_of(key)
    _climb(root, place, leaf_hash(place, sha256(value)), proof)


def verify_absent(root: bytes, key: bytes, proof: StateProof) -> None:
    """Check that `key` has no value in the state with this `root`.

    Raises `ProofError`, naming the reason, when it does not follow.
    """
    _check_form(proof)
    place = place_of(key)
    if proof.other is None:
        _climb(root, place, EMPTY, proof)
        return
    other = proof.other
    if other.place == place:
        raise ProofError("state proof: the leaf shown is the key's own, so the key is present")
    for depth in range(len(proof.siblings)):
        if bit_at(other.place, depth) != bit_at(place, depth):
            raise ProofError(
                f"state proof: the leaf shown leaves the key's way at depth {depth}, "
                f"expected it to share all {len(proof.siblings)} bits"
            )
    _climb(root, place, leaf_hash(other.place, other.value_hash), proof)


def _check_form(proof: StateProof) -> None:
    """Refuse what no tree of rule 3 can produce; records made by hand skip the codec's bounds."""
    siblings = proof.siblings
    if len(siblings) > MAX_DEPTH:
        raise ProofError(f"state proof: {len(siblings)} siblings, the limit is {MAX_DEPTH}")
    for depth, sibling in enumerate(siblings):
        if len(sibling) != _DIGEST_BYTES:
            raise ProofError(
                f"state proof: sibling {depth} has {len(sibling)} bytes, expected {_DIGEST_BYTES}"
            )
    # A lone leaf, or nothing at all, under a branch would have collapsed into the branch's place.
    if siblings and siblings[-1] == EMPTY:
        raise ProofError("state proof: the lowest sibling is empty, so the way is too long")


def _climb(root: bytes, place: bytes, node: bytes, proof: StateProof) -> None:
    for depth in range(len(proof.siblings) - 1, -1, -1):
        sibling = proof.siblings[depth]
        pair = (sibling, node) if bit_at(place, depth) else (node, sibling)
        node = branch_hash(*pair)
    if node != root:
        raise ProofError(f"state proof: leads to root {node.hex()}, expected {root.hex()}")
