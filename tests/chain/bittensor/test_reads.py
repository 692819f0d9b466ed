"""What the adapter reads equals the development chain's own ledger, at the block that was asked."""

from __future__ import annotations

from pathlib import Path

import trio

from chain.devchain.scale import blake2_256
from chain.devchain.server import open_devchain
from chain.errors import ChainErrorCode as Code
from chain.interface import PendingCommit
from tests.chain.bittensor.support import adapter, refusal
from tests.chain.devchain.support import (
    ADDRESSES,
    KEYS,
    NETUID,
    NEWCOMER,
    run_config,
    signed,
    subnet,
)


async def test_the_head_and_the_metagraph_are_the_ledgers(tmp_path: Path):
    rules = {"min_stake": 17, "version_key": 3, "mechanisms": 2, "min_allowed_weights": 2}
    async with (
        open_devchain(subnet(max_weight_limit=60000, **rules), run_config()) as chain,
        adapter(tmp_path, chain) as node,
    ):
        chain.call("dev_stake", ADDRESSES[2], 700, 50)
        chain.call("dev_permit", ADDRESSES[3], False)
        chain.call("dev_set", "blocks_paused", True)
        chain.call("dev_jump", 3)
        head = await node.head()
        graph = await node.metagraph(head.number)
        earlier = await node.metagraph(1)
        final = chain.ledger.final
        past = chain.ledger.block(1)
    assert (head.number, head.block_hash) == (final.number, final.hash)
    assert graph == final.state.metagraph(final.hash)
    assert graph.neurons[2].stake == 750
    assert not graph.neurons[3].validator_permit
    assert graph.owner_hotkey == KEYS[4]
    assert past is not None
    assert earlier == past.state.metagraph(past.hash)


async def test_blocks_that_are_not_final_are_unknown(tmp_path: Path):
    run = run_config(finality_lag=5)
    async with open_devchain(subnet(), run) as chain, adapter(tmp_path, chain) as node:
        chain.call("dev_set", "blocks_paused", True)
        chain.call("dev_jump", 10)
        final = chain.ledger.final.number
        assert (await node.head()).number == final
        for number in (final + 1, final + 100, -1):
            error = await refusal(node.metagraph(number))
            assert error.code is Code.UNKNOWN_BLOCK
            assert f"block {number}, the newest finalised one is {final}" in str(error)
        assert (await refusal(node.epoch_status(final + 1))).code is Code.UNKNOWN_BLOCK


async def test_a_block_whose_state_is_gone_is_unknown_too(tmp_path: Path):
    run = run_config(kept_states=2)
    async with open_devchain(subnet(), run) as chain, adapter(tmp_path, chain) as node:
        chain.call("dev_jump", 20)
        await node.head()
        error = await refusal(node.metagraph(1))
    assert error.code is Code.UNKNOWN_BLOCK
    assert "archive" in str(error)


async def test_epochs_are_the_chains_own(tmp_path: Path):
    async with (
        open_devchain(subnet(tempo=10), run_config()) as chain,
        adapter(tmp_path, chain) as node,
    ):
        chain.call("dev_set", "blocks_paused", True)
        chain.call("dev_jump", 40)
        final = chain.ledger.final
        status = await node.epoch_status(final.number)
        clock = final.state.epochs
        assert (status.epoch, status.first_block) == (clock.index, clock.last_block)
        assert status.next_epoch_block == clock.last_block + 10
        chain.call("dev_epochAt", final.number + 4)
        chain.call("dev_jump", 1)
        head = await node.head()
        assert (await node.epoch_status(head.number)).next_epoch_block == final.number + 4
        chain.call("dev_rule", "tempo", 0)
        chain.call("dev_jump", 1)
        head = await node.head()
        assert (await node.epoch_status(head.number)).next_epoch_block > 1 << 40


async def test_weights_updates_and_the_rate_limit(tmp_path: Path):
    rules = {"mechanisms": 2, "weights_rate_limit": 7}
    async with (
        open_devchain(subnet(**rules), run_config()) as chain,
        adapter(tmp_path, chain) as node,
    ):
        vector = {"dests": [0, 2], "weights": [1, 3]}
        data = signed(chain.ledger, 1, "set_mechanism_weights", mecid=1, **vector)
        chain.ledger.submit(data)
        chain.call("dev_jump", 2)
        updated = chain.ledger.final.state.last_update(1, 1)
        assert await node.weights_of(1, 1) == ((0, 21845), (2, 65535))
        assert await node.weights_of(1, 0) == ()
        assert await node.last_update_of(1, 1) == updated > 0
        assert await node.last_update_of(1, 0) == 0
        assert await node.weights_rate_limit() == 7
        for reading in (node.weights_of, node.last_update_of):
            for uid in (5, -1):
                assert (await refusal(reading(uid))).code is Code.UNKNOWN_UID


async def test_weights_that_are_not_final_are_not_seen(tmp_path: Path):
    run = run_config(finality_lag=5)
    async with open_devchain(subnet(), run) as chain, adapter(tmp_path, chain) as node:
        chain.call("dev_set", "blocks_paused", True)
        chain.ledger.submit(signed(chain.ledger, 1))
        chain.call("dev_jump", 1)
        assert chain.ledger.head.state.weights_of(1, 0)
        assert await node.weights_of(1) == ()
        chain.call("dev_jump", 5)
        assert await node.weights_of(1) == chain.ledger.final.state.weights_of(1, 0)


async def test_pending_commits_of_both_kinds(tmp_path: Path):
    rules = {"commit_reveal": True, "tempo": 1000, "weights_rate_limit": 0}
    sealed = {"mecid": 0, "commit": b"\xff", "reveal_round": 1 << 40, "commit_reveal_version": 4}
    async with (
        open_devchain(subnet(**rules), run_config()) as chain,
        adapter(tmp_path, chain) as node,
    ):
        chain.ledger.submit(
            signed(chain.ledger, 1, "commit_timelocked_mechanism_weights", **sealed)
        )
        digest = "0x" + blake2_256(b"some weights").hex()
        chain.ledger.submit(signed(chain.ledger, 1, "commit_weights", commit_hash=digest))
        chain.ledger.submit(
            signed(chain.ledger, 2, "commit_timelocked_mechanism_weights", **sealed)
        )
        chain.call("dev_jump", 2)
        block = chain.ledger.final.state.last_update(1, 0)
        mine = await node.pending_commits(KEYS[1])
        assert await node.pending_commits(KEYS[1], 1) == ()
        assert await node.pending_commits(KEYS[NEWCOMER]) == ()
        assert len(await node.pending_commits(KEYS[2])) == 1
    assert mine == (PendingCommit(block, 0), PendingCommit(block, 1 << 40))


async def test_a_subnet_that_does_not_exist_is_named(tmp_path: Path):
    async with open_devchain(subnet(), run_config()) as chain, adapter(tmp_path, chain) as node:
        node.netuid = NETUID + 1
        head = await node.head()
        for reading in (
            node.metagraph(head.number),
            node.epoch_status(head.number),
            node.weights_of(0),
            node.last_update_of(0),
            node.weights_rate_limit(),
        ):
            error = await refusal(reading)
            assert error.code is Code.SUBNET_NOT_EXISTS
            assert f"no subnet {NETUID + 1}" in str(error)


async def test_many_calls_at_once_share_one_connection(tmp_path: Path):
    async with open_devchain(subnet(), run_config()) as chain, adapter(tmp_path, chain) as node:
        found: list[int] = []

        async def read(uid: int) -> None:
            found.append(await node.last_update_of(uid))

        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(read, number % 5)
        status = node.status()
    assert found == [0] * 40
    assert (status.counts["connected"], status.threads) == (1, 1)
