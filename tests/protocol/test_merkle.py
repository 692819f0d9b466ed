"""Merkle paths: known answers of RFC 6962, every leaf of every small tree, and every change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import decode, encode, sha256
from protocol.errors import DecodeError, ProofError
from protocol.merkle import (
    EMPTY_ROOT,
    MerklePath,
    leaf_hash,
    merkle_path,
    merkle_root,
    node_hash,
    verify_path,
)

# The test vectors of Google's certificate-transparency (merkletree/testdata, also RFC 6962-bis).
CT_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def leaves_of(count: int) -> list[bytes]:
    return [b"leaf %d" % index for index in range(count)]


def rfc_root(leaves: list[bytes]) -> bytes:
    """The recursive definition of RFC 6962, 2.1, word for word."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return sha256(b"\x00", leaves[0])
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\x01", rfc_root(leaves[:split]), rfc_root(leaves[split:]))


def test_empty_root_is_the_hash_of_nothing():
    assert merkle_root([]) == EMPTY_ROOT == sha256(b"")


@pytest.mark.parametrize("count", range(1, 9))
def test_known_answers_of_certificate_transparency(count: int):
    assert merkle_root(CT_LEAVES[:count]).hex() == CT_ROOTS[count - 1]


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_root_is_that_of_the_definition(leaves: list[bytes]):
    assert merkle_root(leaves) == rfc_root(leaves)


@pytest.mark.parametrize("count", [*range(1, 34), 63, 64, 65, 100])
def test_every_leaf_has_a_path(count: int):
    leaves = leaves_of(count)
    root = merkle_root(leaves)
    for index, leaf in enumerate(leaves):
        path = merkle_path(leaves, index)
        verify_path(root, leaf, path, count=count)
        assert decode(MerklePath, encode(path)) == path


@given(st.data())
def test_nothing_else_verifies(data: st.DataObject):
    count = data.draw(st.integers(1, 40))
    index = data.draw(st.integers(0, count - 1))
    leaves = leaves_of(count)
    root, path = merkle_root(leaves), merkle_path(leaves, index)
    other = data.draw(st.integers(0, count - 1).filter(lambda i: i != index) | st.none())
    wrong = [(root, leaves[index] + b"x", path), (sha256(root), leaves[index], path)]
    if other is not None:
        wrong.append((root, leaves[other], path))
        wrong.append((root, leaves[index], changed(path, index=other)))
    if path.siblings:
        place = data.draw(st.integers(0, len(path.siblings) * 256 - 1))
        wrong.append((root, leaves[index], changed(path, siblings=flip(path.siblings, place))))
        wrong.append((root, leaves[index], changed(path, siblings=path.siblings[:-1])))
        wrong.append((root, leaves[index], changed(path, siblings=path.siblings[1:])))
    longer = (*path.siblings, data.draw(st.binary(min_size=32, max_size=32)))
    wrong.append((root, leaves[index], changed(path, siblings=longer)))
    for case in wrong:
        with pytest.raises(ProofError):
            verify_path(*case, count=count)


@pytest.mark.parametrize(
    ("index", "count", "siblings", "reason"),
    [
        (1, 1, 0, "does not exist"),
        (0, 0, 0, "does not exist"),
        (5, 3, 2, "does not exist"),
        (0, 1, 1, "too many"),
        (0, 4, 3, "too many"),
        (0, 4, 1, "too few"),
        (2, 3, 0, "too few"),
        (2, 3, 2, "too many"),
        (0, 4, 2, "leads to root"),
    ],
)
def test_reasons(index: int, count: int, siblings: int, reason: str):
    path = MerklePath(index=index, count=count, siblings=(bytes(32),) * siblings)
    with pytest.raises(ProofError, match=reason):
        verify_path(bytes(32), b"leaf", path)


def test_the_count_must_be_signed_beside_the_root():
    # Rule 4: leaf 2 of 3 passes as leaf 1 of 2 unless the verifier knows the count.
    leaves = leaves_of(3)
    renamed = changed(merkle_path(leaves, 2), index=1, count=2)
    verify_path(merkle_root(leaves), leaves[2], renamed)
    with pytest.raises(ProofError, match="for a tree of 2 leaves, expected 3"):
        verify_path(merkle_root(leaves), leaves[2], renamed, count=3)


def test_a_node_is_no_leaf():
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != node_hash(left, right)


def test_no_path_of_a_leaf_that_is_not_there():
    with pytest.raises(IndexError):
        merkle_path([b"a"], 1)
    with pytest.raises(IndexError):
        merkle_path([b"a"], -1)


def test_a_path_from_the_network_is_bounded():
    long = MerklePath(index=0, count=1, siblings=(bytes(32),) * 33)
    with pytest.raises(DecodeError):
        decode(MerklePath, encode(long))


def changed(path: MerklePath, **fields: object) -> MerklePath:
    values = {"index": path.index, "count": path.count, "siblings": path.siblings, **fields}
    return MerklePath(**values)


def flip(siblings: tuple[bytes, ...], bit: int) -> tuple[bytes, ...]:
    joined = bytearray(b"".join(siblings))
    joined[bit // 8] ^= 1 << (bit % 8)
    return tuple(bytes(joined[i : i + 32]) for i in range(0, len(joined), 32))
