"""Opening the chain that the configuration names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.devchain.config import NeuronConfig, RunConfig, SubnetConfig
from chain.devchain.server import open_devchain
from chain.embedded import EmbeddedChain
from chain.errors import ChainError
from protocol.identity import ss58_of
from tests.support import World, replaced
from validator_node.chain_access import (
    EMBEDDED_LANDING_BLOCKS,
    INCLUSION_DEADLINE_S,
    MARGIN_BLOCKS,
    ChainAccess,
    open_chain,
    patience,
)
from validator_node.config import NodeConfig
from validator_node.errors import ConfigError

NETUID, BLOCK_MS, DEADLINE_S = 7, 100, 60.0


@pytest.fixture
def world() -> World:
    made = World()
    chain = replaced(made.genesis.chain, netuid=NETUID, block_time_ms=BLOCK_MS, tempo=80)
    made.genesis = replaced(made.genesis, chain=chain)
    return made


@pytest.fixture
def configured(tmp_path: Path) -> Callable[..., NodeConfig]:
    def make(**changes: Any) -> NodeConfig:
        names = ("genesis", "keystore", "state_dir")
        return NodeConfig(**{name: tmp_path / name for name in names}, **changes)

    return make


async def test_the_embedded_chain(
    world: World, configured: Callable[..., NodeConfig], tmp_path: Path
) -> None:
    async with open_chain(configured(chain_dir=tmp_path / "chain"), world.genesis) as access:
        assert isinstance(access.chain, EmbeddedChain)
        assert access.status() is None
        submitter = patience(access, world.genesis)
    assert submitter.stagger_window == 10
    blocks = submitter.inclusion_deadline_s * 1000 / BLOCK_MS
    assert submitter.landing_blocks == EMBEDDED_LANDING_BLOCKS + blocks


async def test_a_chain_behind_endpoints(
    world: World, configured: Callable[..., NodeConfig]
) -> None:
    neurons = tuple(
        NeuronConfig(hotkey=ss58_of(one.hotkey), stake=one.stake, validator_permit=True)
        for one in world.genesis.neurons
    )
    subnet = SubnetConfig(netuid=NETUID, neurons=neurons)
    run = RunConfig(port=0, block_time_ms=BLOCK_MS)
    async with open_devchain(subnet, run) as served:
        config = configured(chain_endpoints=("ws://127.0.0.1:1", served.url))
        async with open_chain(config, world.genesis) as access:
            assert access.landing_blocks > MARGIN_BLOCKS
            submitter = patience(access, world.genesis)
            assert submitter.inclusion_deadline_s == INCLUSION_DEADLINE_S
            assert submitter.landing_blocks > INCLUSION_DEADLINE_S * 1000 / BLOCK_MS
            with trio.fail_after(DEADLINE_S):
                found = await _metagraph(access)
            status = access.status()
    assert [one.hotkey for one in found.neurons] == [one.hotkey for one in world.genesis.neurons]
    assert status is not None
    assert status.head >= 0


async def _metagraph(access: ChainAccess) -> Any:
    while True:
        try:
            head = await access.chain.head()
            return await access.chain.metagraph(head.number)
        except ChainError:
            await trio.sleep(access.poll_s)


@pytest.mark.parametrize(
    "changes",
    [
        {"chain_endpoints": ("http://127.0.0.1:1",)},
        {"chain_endpoints": ("ws://127.0.0.1:1",), "chain_stale_s": 0.001},
    ],
)
async def test_what_cannot_work_is_a_configuration_error(
    world: World, configured: Callable[..., NodeConfig], changes: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="chain_endpoints"):
        async with open_chain(configured(**changes), world.genesis):
            pass
