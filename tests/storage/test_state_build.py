"""Building a tree at once gives the same nodes as working changes in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import sha256
from protocol.state_proof import EMPTY
from storage.errors import StateError
from storage.state_build import Leaf, build_tree
from storage.state_nodes import TreeUpdate, count_leaves

# Places that share many leading bits make the deep, one-sided branches.
close = st.builds(
    lambda head, bits, tail: (head << 248 | bits << 240 | tail).to_bytes(32),
    st.integers(0, 3),
    st.integers(0, 255),
    st.integers(0, 3),
)
places = st.sets(st.one_of(close, st.binary(min_size=32, max_size=32)), max_size=60)


def built(leaves: list[Leaf]) -> tuple[bytes, dict[int, bytes]]:
    nodes: dict[int, bytes] = {}

    def write(path: int, node: bytes) -> None:
        assert path not in nodes, "each node is given out once"
        nodes[path] = node

    return build_tree(leaves, write), nodes


@given(places)
def test_it_is_the_tree_that_changes_make(chosen: set[bytes]):
    leaves = [(place, sha256(place)) for place in sorted(chosen)]
    update = TreeUpdate(lambda _path: None)
    root = update.apply(EMPTY, leaves)
    assert built(leaves) == (root, {path: node for path, node in update.writes.items() if node})
    assert count_leaves(built(leaves)[1].get, root) == len(leaves)


def test_an_empty_tree():
    assert built([]) == (EMPTY, {})


@pytest.mark.parametrize("order", [(1, 1), (2, 1), (1, 3, 2)])
def test_places_ascend(order: tuple[int, ...]):
    with pytest.raises(StateError, match="does not follow"):
        built([(number.to_bytes(32), bytes(32)) for number in order])
