"""Weights that travel through the adapter and the unmodified SDK, and what is refused then."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from chain.bittensor import BittensorChain, Deadlines
from chain.devchain.server import open_devchain
from chain.errors import ChainErrorCode as Code
from chain.errors import Retry
from chain.weights import chain_upscale, is_normal_form, normal_form
from tests.chain.bittensor.support import Signer, adapter, refusal, settings, until
from tests.chain.devchain.support import (
    ADDRESSES,
    DRAND_ROUND,
    DRAND_SIGNATURE,
    KEYS,
    run_config,
    sealed_commit,
    subnet,
)

VECTOR = ((0, 21845), (2, 65535), (3, 1))
STRANGER = 6


@pytest.mark.parametrize("mechanism", [0, 1])
async def test_plain_weights_arrive_byte_for_byte(tmp_path: Path, mechanism: int):
    async with (
        open_devchain(subnet(mechanisms=2, version_key=5), run_config()) as chain,
        adapter(tmp_path, chain) as node,
    ):
        done = await node.set_weights(Signer(1), VECTOR, mechanism=mechanism, version_key=5)
        block = chain.ledger.block(done.block.number)
        assert await node.weights_of(1, mechanism) == VECTOR
        assert await node.last_update_of(1, mechanism) == done.block.number
        assert await node.last_update_of(1, 1 - mechanism) == 0
        assert chain.ledger.final.number >= done.block.number
    assert block is not None
    assert (done.block.block_hash, len(block.included)) == (block.hash, 1)
    assert done.reference == f"{done.block.number}-0000"


async def test_the_owners_and_a_single_self_weight(tmp_path: Path):
    async with open_devchain(subnet(), run_config()) as chain, adapter(tmp_path, chain) as node:
        chain.call("dev_permit", ADDRESSES[1], False)
        chain.call("dev_permit", ADDRESSES[4], False)
        await node.set_weights(Signer(1), ((1, 65535),))
        await node.set_weights(Signer(4), VECTOR)
        assert await node.weights_of(1) == ((1, 65535),)
        assert await node.weights_of(4) == VECTOR


async def test_a_short_vector_that_a_small_subnet_allows(tmp_path: Path):
    """Five neurons and a least of eight weights: the chain asks for five, the SDK for eight."""
    vector = tuple((uid, 65535) for uid in range(5))
    async with (
        open_devchain(subnet(min_allowed_weights=8), run_config()) as chain,
        adapter(tmp_path, chain) as node,
    ):
        await node.set_weights(Signer(1), vector)
        assert await node.weights_of(1) == vector
        refused = await refusal(node.set_weights(Signer(2), vector[:4]))
    assert refused.code is Code.WEIGHT_VEC_LENGTH_IS_LOW


def test_the_sdk_would_send_another_vector_above_the_maximum_weight():
    """Why calls are composed here: what is refused by the chain, the SDK fits in silence."""
    intents = importlib.import_module("bittensor.intents.weights")
    clipped = intents.clip_to_max_weight([65535.0, 21845.0, 21845.0], 0.5)
    assert intents.normalize([0, 1, 2], clipped)[1] != [65535, 21845, 21845]


@given(st.dictionaries(st.integers(0, 65535), st.integers(1, 65535), min_size=1, max_size=64))
def test_normal_form_is_what_the_chain_and_the_sdk_leave_alone(scores: dict[int, int]):
    from fractions import Fraction

    intents = importlib.import_module("bittensor.intents.weights")
    vector = normal_form({uid: Fraction(score) for uid, score in scores.items()})
    assert is_normal_form(vector)
    assert chain_upscale(vector) == vector
    uids, values = [uid for uid, _ in vector], [value for _, value in vector]
    assert intents.normalize(uids, [float(value) for value in values]) == (uids, values)


async def test_a_commit_is_included_and_pending(tmp_path: Path):
    rules = {"commit_reveal": True, "tempo": 1000, "mechanisms": 2}
    async with (
        open_devchain(subnet(**rules), run_config()) as chain,
        adapter(tmp_path, chain) as node,
    ):
        done = await node.set_weights(Signer(1), VECTOR, mechanism=1)
        (pending,) = await node.pending_commits(KEYS[1], 1)
        assert await node.weights_of(1, 1) == ()
        assert await node.pending_commits(KEYS[1], 0) == ()
        (stored,) = chain.ledger.final.state.commits
    assert (pending.block, pending.reveal_round) == (done.block.number, stored.reveal_round)
    assert (stored.hotkey, stored.mechanism) == (KEYS[1], 1)
    assert pending.reveal_round > 30_000_000


async def test_a_commit_is_opened_by_its_own_round(tmp_path: Path, monkeypatch):
    """The round of a real commit lies ahead; here the seal is for one whose signature is known."""
    import bittensor_core

    def sealed(**given: Any) -> tuple[bytes, int]:
        commit = sealed_commit(1, given["uids"], given["weights"])
        assert given["hotkey"] == KEYS[1]
        return commit, DRAND_ROUND

    monkeypatch.setattr(bittensor_core, "get_encrypted_commit_v2", sealed)
    async with (
        open_devchain(subnet(commit_reveal=True), run_config()) as chain,
        adapter(tmp_path, chain) as node,
    ):
        await node.set_weights(Signer(1), VECTOR)
        chain.call("dev_pulse", DRAND_ROUND, DRAND_SIGNATURE)
        chain.call("dev_jump", 12)
        assert await node.weights_of(1) == VECTOR
        assert await node.pending_commits(KEYS[1]) == ()


async def test_a_block_that_is_taken_back_is_no_inclusion(tmp_path: Path):
    run = run_config(finality_lag=50)
    async with open_devchain(subnet(), run) as chain, adapter(tmp_path, chain) as node:

        async def reorganise() -> None:
            while not chain.ledger.head.state.weights_of(1, 0):
                await chain.reached(chain.ledger.head.number + 1)
            chain.call("dev_reorg", 1, True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reorganise)
            error = await refusal(node.set_weights(Signer(1), VECTOR))
    assert (error.code, error.code.retry) == (Code.NOT_INCLUDED, Retry.BACK_OFF)
    assert "retracted" in str(error).lower()


async def test_a_signer_that_raises_is_named_and_the_connection_kept(tmp_path: Path):
    class Broken(Signer):
        def sign(self, message: bytes) -> bytes:
            raise ConnectionRefusedError("no signer at 127.0.0.1:9")

    class Wrong(Signer):
        def sign(self, message: bytes) -> bytes:
            return b"short"

    async with open_devchain(subnet(), run_config()) as chain, adapter(tmp_path, chain) as node:
        broken = await refusal(node.set_weights(Broken(1), VECTOR))
        wrong = await refusal(node.set_weights(Wrong(1), VECTOR))
        await node.set_weights(Signer(1), VECTOR)
        status = node.status()
    assert (broken.code, wrong.code) == (Code.SIGNER_FAILED, Code.SIGNER_FAILED)
    assert "no signer at 127.0.0.1:9" in str(broken)
    assert "signature of 5 bytes" in str(wrong)
    assert status.counts["connected"] == 1


async def test_a_signer_that_never_answers_costs_its_deadline_only(tmp_path: Path):
    answer = threading.Event()

    class Slow(Signer):
        def sign(self, message: bytes) -> bytes:
            answer.wait(20)
            return super().sign(message)

    deadlines = Deadlines(connect_s=20, read_s=20, write_s=1.5, grace_s=2)
    async with (
        open_devchain(subnet(), run_config()) as chain,
        adapter(tmp_path, chain, settings=settings(deadlines)) as node,
    ):
        error = await refusal(node.set_weights(Slow(1), VECTOR))
        answer.set()
        status = node.status()
        await chain.reached(chain.ledger.head.number + 3)
        assert chain.ledger.head.state.weights_of(1, 0) == ()
        await node.set_weights(Signer(1), VECTOR)
    assert error.code is Code.SIGNER_FAILED
    assert (status.counts["connected"], status.counts["silent"]) == (1, 0)


async def test_a_call_that_the_chain_swallows_ends_at_its_deadline(tmp_path: Path):
    deadlines = Deadlines(connect_s=20, read_s=20, write_s=1.5, grace_s=2)
    async with (
        open_devchain(subnet(), run_config()) as chain,
        adapter(tmp_path, chain, settings=settings(deadlines)) as node,
    ):
        chain.call("dev_set", "swallow", 1)
        error = await refusal(node.set_weights(Signer(1), VECTOR))
        await node.set_weights(Signer(1), VECTOR)
    assert (error.code, error.code.retry) == (Code.DEADLINE, Retry.BACK_OFF)
    assert "it may still land" in str(error)


async def test_a_call_whose_caller_went_away_does_not_stand_in_the_way(tmp_path: Path):
    """What was swallowed used a nonce that the chain never saw."""
    async with open_devchain(subnet(), run_config()) as chain, adapter(tmp_path, chain) as node:
        chain.call("dev_set", "swallow", 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.set_weights, Signer(1), VECTOR)
            await until(lambda: chain.ledger.knobs.swallow == 0)
            nursery.cancel_scope.cancel()
        await node.set_weights(Signer(1), VECTOR)
        assert node.status().counts["connected"] == 1


async def test_several_mechanisms_of_one_hotkey_at_once(tmp_path: Path):
    async with (
        open_devchain(subnet(mechanisms=4), run_config()) as chain,
        adapter(tmp_path, chain) as node,
    ):

        async def submit(mechanism: int) -> None:
            await node.set_weights(Signer(1), VECTOR, mechanism=mechanism)

        async with trio.open_nursery() as nursery:
            for mechanism in range(4):
                nursery.start_soon(submit, mechanism)
        stored = {await node.weights_of(1, mechanism) for mechanism in range(4)}
    assert stored == {VECTOR}


async def test_four_validators_at_once_store_four_equal_vectors(tmp_path: Path):
    async with open_devchain(subnet(), run_config()) as chain, adapter(tmp_path, chain) as node:

        async def submit(one: BittensorChain, who: int) -> None:
            await one.set_weights(Signer(who), VECTOR)

        async with trio.open_nursery() as nursery:
            for who in range(4):
                nursery.start_soon(submit, node, who)
        stored = {await node.weights_of(uid) for uid in range(4)}
    assert stored == {VECTOR}
