"""State proofs against a model of the tree that is nothing but its definition."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.codec import decode, encode, sha256
from protocol.errors import DecodeError, ProofError
from protocol.state_proof import (
    EMPTY,
    OtherLeaf,
    StateProof,
    bit_at,
    branch_hash,
    leaf_hash,
    place_of,
    verify_absent,
    verify_state,
)

Model = dict[bytes, bytes]
MODELS = st.dictionaries(st.binary(min_size=1, max_size=3), st.binary(max_size=3), max_size=40)


def model_root(leaves: dict[bytes, bytes], depth: int = 0) -> bytes:
    """The root over place -> value hash, straight from the rules."""
    if not leaves:
        return EMPTY
    if len(leaves) == 1:
        [(place, value_hash)] = leaves.items()
        return leaf_hash(place, value_hash)
    sides: list[dict[bytes, bytes]] = [{}, {}]
    for place, value_hash in leaves.items():
        sides[bit_at(place, depth)][place] = value_hash
    return branch_hash(model_root(sides[0], depth + 1), model_root(sides[1], depth + 1))


def model_leaves(model: Model) -> dict[bytes, bytes]:
    return {place_of(key): sha256(value) for key, value in model.items()}


def model_proof(leaves: dict[bytes, bytes], place: bytes) -> StateProof:
    siblings: list[bytes] = []
    depth = 0
    while len(leaves) > 1:
        sides: list[dict[bytes, bytes]] = [{}, {}]
        for other, value_hash in leaves.items():
            sides[bit_at(other, depth)][other] = value_hash
        side = bit_at(place, depth)
        siblings.append(model_root(sides[1 - side], depth + 1))
        leaves = sides[side]
        depth += 1
    other_leaf = None
    if leaves and place not in leaves:
        [(other_place, value_hash)] = leaves.items()
        other_leaf = OtherLeaf(place=other_place, value_hash=value_hash)
    return StateProof(siblings=tuple(siblings), other=other_leaf)


@given(MODELS, st.binary(min_size=1, max_size=3))
def test_every_key_is_proved_present_or_absent(model: Model, stranger: bytes):
    leaves = model_leaves(model)
    root = model_root(leaves)
    for key in [*model, stranger]:
        proof = model_proof(leaves, place_of(key))
        assert decode(StateProof, encode(proof)) == proof
        if key in model:
            verify_state(root, key, model[key], proof)
            with pytest.raises(ProofError):
                verify_absent(root, key, proof)
        else:
            verify_absent(root, key, proof)
            with pytest.raises(ProofError):
                verify_state(root, key, b"", proof)


@settings(max_examples=60)
@given(MODELS.filter(bool), st.data())
def test_any_flipped_bit_fails(model: Model, data: st.DataObject):
    leaves = model_leaves(model)
    root = model_root(leaves)
    key = data.draw(st.sampled_from(sorted(model)))
    proof = model_proof(leaves, place_of(key))
    for bit in range(len(proof.siblings) * 256):
        with pytest.raises(ProofError):
            verify_state(root, key, model[key], flipped(proof, bit))
    for bit in range(len(key) * 8):
        with pytest.raises(ProofError):
            verify_state(root, flip(key, bit), model[key], proof)
    for bit in range(len(model[key]) * 8):
        with pytest.raises(ProofError):
            verify_state(root, key, flip(model[key], bit), proof)
    for shorter in (proof.siblings[:-1], proof.siblings[1:], (*proof.siblings, sha256(key))):
        if shorter != proof.siblings:
            with pytest.raises(ProofError):
                verify_state(root, key, model[key], StateProof(siblings=shorter))


@given(MODELS, st.binary(min_size=1, max_size=3), st.data())
def test_any_flipped_bit_fails_for_absence(model: Model, stranger: bytes, data: st.DataObject):
    model.pop(stranger, None)
    leaves = model_leaves(model)
    root = model_root(leaves)
    proof = model_proof(leaves, place_of(stranger))
    if proof.siblings:
        bit = data.draw(st.integers(0, len(proof.siblings) * 256 - 1))
        with pytest.raises(ProofError):
            verify_absent(root, stranger, flipped(proof, bit))
    if proof.other is not None:
        bit = data.draw(st.integers(0, 255))
        place, value_hash = proof.other.place, proof.other.value_hash
        for other in (
            OtherLeaf(place=flip(place, bit), value_hash=value_hash),
            OtherLeaf(place=place, value_hash=flip(value_hash, bit)),
            None,
        ):
            with pytest.raises(ProofError):
                verify_absent(root, stranger, StateProof(siblings=proof.siblings, other=other))
    with pytest.raises(ProofError):
        verify_absent(sha256(root), stranger, proof)


def test_the_empty_state():
    verify_absent(EMPTY, b"key", StateProof(siblings=()))
    with pytest.raises(ProofError, match="leads to root"):
        verify_state(EMPTY, b"key", b"", StateProof(siblings=()))


def test_another_keys_leaf_must_lie_on_the_way():
    # Without the check, the leaf of b would "prove" a absent at a's own place.
    leaves = model_leaves({b"a": b"1", b"b": b"2"})
    proof = StateProof(
        siblings=(bytes([1]) * 32,) * 8,
        other=OtherLeaf(place=flip(place_of(b"a"), 7), value_hash=leaves[place_of(b"b")]),
    )
    with pytest.raises(ProofError, match="leaves the key's way at depth 0"):
        verify_absent(model_root(leaves), b"a", proof)


def test_own_leaf_shown_as_another_is_refused():
    root = leaf_hash(place_of(b"a"), sha256(b"1"))
    own = OtherLeaf(place=place_of(b"a"), value_hash=sha256(b"1"))
    with pytest.raises(ProofError, match="the key is present"):
        verify_absent(root, b"a", StateProof(siblings=(), other=own))


def test_forms_no_tree_produces():
    leaf = leaf_hash(place_of(b"a"), sha256(b"1"))
    pair = (EMPTY, leaf) if bit_at(place_of(b"a"), 0) else (leaf, EMPTY)
    with pytest.raises(ProofError, match="lowest sibling is empty"):
        verify_state(branch_hash(*pair), b"a", b"1", StateProof(siblings=(EMPTY,)))
    with pytest.raises(ProofError, match="31 bytes"):
        verify_state(leaf, b"a", b"1", StateProof(siblings=(bytes(31),)))
    with pytest.raises(ProofError, match="257 siblings"):
        verify_state(leaf, b"a", b"1", StateProof(siblings=(leaf,) * 257))
    with pytest.raises(DecodeError):
        decode(StateProof, encode(StateProof(siblings=(leaf,) * 257)))


def test_bits_are_counted_from_the_most_significant():
    place = bytes([0b1000_0001]) + bytes(30) + b"\x01"
    assert [bit_at(place, depth) for depth in range(8)] == [1, 0, 0, 0, 0, 0, 0, 1]
    assert bit_at(place, 255) == 1


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def flipped(proof: StateProof, bit: int) -> StateProof:
    joined = flip(b"".join(proof.siblings), bit)
    siblings = tuple(joined[i : i + 32] for i in range(0, len(joined), 32))
    return StateProof(siblings=siblings, other=proof.other)
