"""The way to the chain: the embedded one of a test network, or nodes of a live one by the SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chain.interface import Chain
from chain.submitter import WeightSubmitter
from protocol.records.genesis import Genesis
from validator_node.config import NodeConfig
from validator_node.errors import ConfigError
from validator_node.founding import embedded_chain

if TYPE_CHECKING:
    from chain.bittensor import ChainStatus

EMBEDDED_LANDING_BLOCKS = 2
EMBEDDED_INCLUSION_S = 10.0
"""A call to the embedded chain is a file written in place: it ends with its process."""
MARGIN_BLOCKS = 16
LONGEST_POLL_S = 6.0
INCLUSION_DEADLINE_S = 180.0
"""How long one weights call may take: on the live chain about 30 s, at most the adapter's own
deadline for it, a connection that is made before it, and a signer at a distance."""
STAGGER_SHARE = 8
"""The submitters are spread over the first eighth of a tempo."""


@dataclass(frozen=True)
class ChainAccess:
    """A chain, and what a user of it has to know.

    `poll_s` is how often it is worth looking. A weights call may take `inclusion_s`, and land
    within `landing_blocks` of its signature. `status` returns how the connection is, None for a
    chain without one.
    """

    chain: Chain
    poll_s: float
    inclusion_s: float = EMBEDDED_INCLUSION_S
    landing_blocks: int = EMBEDDED_LANDING_BLOCKS
    status: Callable[[], ChainStatus | None] = lambda: None


def patience(access: ChainAccess, genesis: Genesis) -> WeightSubmitter:
    """Return the submitter that suits the chain.

    A call may be signed as late as its deadline, and counts its life from then: as many blocks
    later than the view that it was decided on.
    """
    passed = int(access.inclusion_s * 1000 / genesis.chain.block_time_ms)
    return WeightSubmitter(
        inclusion_deadline_s=access.inclusion_s,
        poll_s=access.poll_s,
        stagger_window=genesis.chain.tempo // STAGGER_SHARE,
        landing_blocks=access.landing_blocks + passed,
    )


@asynccontextmanager
async def open_chain(config: NodeConfig, genesis: Genesis) -> AsyncIterator[ChainAccess]:
    """Give access to the chain of the configuration while the block lasts.

    No endpoint needs to answer at the start. Raises `ConfigError`; and `ChainLostError`, from
    within the block, when the connection is given up: the process should end and be restarted.
    """
    half_block_s = genesis.chain.block_time_ms / 2000
    if config.chain_dir is not None:
        yield ChainAccess(embedded_chain(genesis, config.chain_dir), half_block_s)
        return
    from chain.bittensor import SdkMissingError, Settings, open_bittensor
    from chain.bittensor.writes import CALL_LIFE_BLOCKS
    from chain.watchdog import Limits

    poll_s = min(half_block_s, LONGEST_POLL_S)
    async with AsyncExitStack() as stack:
        try:
            limits = Limits(stale_s=config.chain_stale_s, hopeless_s=config.chain_hopeless_s)
            opened = open_bittensor(
                config.chain_endpoints,
                genesis.chain.netuid,
                cache_dir=config.state_dir / "chain-cache",
                genesis_hash=bytes.fromhex(config.chain_genesis_hash) or None,
                settings=Settings(limits=limits, poll_s=poll_s),
            )
            chain = await stack.enter_async_context(opened)
        except (ValueError, SdkMissingError) as error:
            raise ConfigError(f"chain_endpoints: {error}") from error
        landing = CALL_LIFE_BLOCKS + MARGIN_BLOCKS
        yield ChainAccess(chain, poll_s, INCLUSION_DEADLINE_S, landing, chain.status)
