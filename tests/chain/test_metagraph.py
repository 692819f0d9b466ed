from __future__ import annotations

from dataclasses import replace

import pytest

from chain.interface import Block, Metagraph, Neuron, SubnetRules
from chain.metagraph import epoch_metagraph
from protocol.codec import decode, digest_of, encode, sha256
from protocol.records import genesis
from protocol.records.batch import MAX_BATCH_BYTES
from protocol.records.metagraph import (
    MAX_MECHANISMS,
    MAX_NEURONS,
    EpochMetagraph,
    MetagraphFormError,
    WeightRules,
)
from tests.support import replaced

FIRST, SECOND = sha256(b"first"), sha256(b"second")
GRAPH = Metagraph(
    netuid=7,
    block=Block(40, sha256(b"block")),
    neurons=(Neuron(1, FIRST, 10, True, 3), Neuron(5, SECOND, 0, False, 0)),
    owner_hotkey=SECOND,
    rules=SubnetRules(min_allowed_weights=3, max_weight_limit=100, mechanisms=2, min_stake=9),
)


def test_it_holds_what_the_chain_said() -> None:
    assert epoch_metagraph(GRAPH, 2) == EpochMetagraph(
        epoch=2,
        block=40,
        block_hash=sha256(b"block"),
        owner=SECOND,
        rules=WeightRules(min_allowed_weights=3, max_weight_limit=100, mechanisms=2),
        neurons=(
            genesis.Neuron(uid=1, hotkey=FIRST, stake=10, validator_permit=True),
            genesis.Neuron(uid=5, hotkey=SECOND, stake=0, validator_permit=False),
        ),
    )


def test_what_depends_on_the_moment_is_left_out() -> None:
    later = replace(GRAPH, neurons=(replace(GRAPH.neurons[0], last_update=99), GRAPH.neurons[1]))
    assert digest_of(epoch_metagraph(later, 2)) == digest_of(epoch_metagraph(GRAPH, 2))
    moved = replace(GRAPH, neurons=(replace(GRAPH.neurons[0], stake=11), GRAPH.neurons[1]))
    assert digest_of(epoch_metagraph(moved, 2)) != digest_of(epoch_metagraph(GRAPH, 2))


def crowd(count: int, mechanisms: int = 1) -> Metagraph:
    neurons = tuple(
        Neuron(uid, sha256(uid.to_bytes(2)), 2**63 - 1, True, 0) for uid in range(count)
    )
    return replace(GRAPH, neurons=neurons, rules=SubnetRules(mechanisms=mechanisms))


def test_the_largest_one_fits_into_a_batch() -> None:
    largest = encode(epoch_metagraph(crowd(MAX_NEURONS), 2))
    assert decode(EpochMetagraph, largest) == epoch_metagraph(crowd(MAX_NEURONS), 2)
    assert len(largest) < MAX_BATCH_BYTES - 8192


def test_a_subnet_of_the_usual_size_is_small() -> None:
    assert len(encode(epoch_metagraph(crowd(256), 2))) < 16_384


def test_a_metagraph_that_no_batch_may_hold_is_refused() -> None:
    with pytest.raises(MetagraphFormError, match="limit"):
        epoch_metagraph(crowd(4096, mechanisms=5), 2)
    with pytest.raises(MetagraphFormError, match="4097 neurons, the limit is 4096"):
        epoch_metagraph(crowd(MAX_NEURONS + 1), 2)
    for mechanisms in (0, MAX_MECHANISMS + 1):
        with pytest.raises(MetagraphFormError, match=f"{mechanisms} mechanisms, expected 1 to 16"):
            epoch_metagraph(crowd(2, mechanisms), 2)
    good = epoch_metagraph(GRAPH, 2)
    for neurons in (
        good.neurons[::-1],
        (good.neurons[0], good.neurons[0]),
        (good.neurons[0], replaced(good.neurons[1], hotkey=FIRST)),
    ):
        with pytest.raises(MetagraphFormError):
            replaced(good, neurons=neurons).check_form()
