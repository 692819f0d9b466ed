"""Running a node: open everything in order, run, and close everything in reverse.

A run ends when the node is told to stop, when a service fails, or when a snapshot waits to be
installed: then everything is closed and the next run begins from the snapshot. A chain that is lost
ends the process, whose supervisor starts it again.
"""

from __future__ import annotations

import signal

import structlog
import trio

from chain.watchdog import ChainLostError
from protocol.records.genesis import Genesis
from runtime.artifact_cache import ArtifactCache, ArtifactFolderError
from runtime.compiler import Compiler, ModuleSource
from runtime.engine import engine_id
from runtime.pool import open_pool
from validator_node.chain_access import open_chain
from validator_node.config import NodeConfig, load_genesis
from validator_node.errors import ConfigError, ResyncNeeded
from validator_node.founding import load_modules
from validator_node.gauges import sources_of
from validator_node.keys import Keys, load_keystore, passphrase
from validator_node.metrics import MetricsServer
from validator_node.modules import Modules
from validator_node.network.network import NetworkConfig, open_network
from validator_node.node import Node
from validator_node.opening import check_state_folder
from validator_node.records.assembly import RecordParts
from validator_node.stopping import stop_signals
from validator_node.sync.download import install_prepared
from validator_node.sync.trust import parse_trusted

log = structlog.get_logger(__name__)


async def run_node(config: NodeConfig) -> None:
    """Run a node until one of `stop_signals`. Raises `NodeError` for what its operator can mend."""
    genesis = load_genesis(config.genesis)
    if genesis.engine_id != engine_id():
        raise ConfigError(
            f"the network runs evaluation engine {genesis.engine_id.hex()[:16]}, this build has "
            f"{engine_id().hex()[:16]}: install the release that the network has agreed on"
        )
    parse_trusted(config.trusted_checkpoint)
    keys = load_keystore(config.keystore, passphrase(config.passphrase_file))
    check_state_folder(config, genesis, keys.consensus.public_key)
    config.state_dir.mkdir(parents=True, exist_ok=True)
    if config.chain_endpoints and not config.chain_genesis_hash:
        log.warning("chain_genesis_hash is not set: the first endpoint that answers decides")
    async with trio.open_nursery() as nursery:
        await nursery.start(_stop_on_signal, nursery.cancel_scope)
        while True:
            if install_prepared(config.state_dir):
                log.info("snapshot installed")
            try:
                await _run_once(config, genesis, keys)
                break
            except* ResyncNeeded as group:
                log.info("restarting", reason=str(leaf(group)))
            except* ChainLostError as group:
                log.critical("the chain is lost", reason=str(leaf(group)))
                raise
        nursery.cancel_scope.cancel()


def leaf(group: BaseException) -> BaseException:
    """Return the first exception inside nested groups."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


async def _run_once(config: NodeConfig, genesis: Genesis, keys: Keys) -> None:
    modules = Modules(load_modules(genesis), config.module_dir)
    compiler = _compiler(config, genesis, keys, modules.get)
    records = RecordParts(config.state_dir, genesis)
    network_config = NetworkConfig(
        seed=keys.libp2p_seed,
        listen_host=config.listen_host,
        listen_port=config.listen_port,
        bootstrap=config.bootstrap,
        announce=config.external_addrs,
        dht=records.config(),
    )
    node: Node | None = None
    try:
        async with (
            open_pool(
                config.workers,
                module_source=modules.get,
                expected_engine_id=genesis.engine_id,
                compiler=compiler,
                challenge_cap=config.challenge_workers or None,
            ) as pool,
            open_network(network_config) as network,
            open_chain(config, genesis) as chain,
        ):
            node = Node(config, genesis, keys, pool, network, modules, records, chain)
            with MetricsServer(config.metrics_host, config.metrics_port, sources_of(node)):
                await node.run()
    finally:
        if node is not None:  # last: whoever still asks over the network needs the store
            node.close()
        records.close()


def _compiler(config: NodeConfig, genesis: Genesis, keys: Keys, modules: ModuleSource) -> Compiler:
    try:
        cache = ArtifactCache(config.artifact_dir, keys.artifact_key, genesis.engine_id)
    except ArtifactFolderError as error:
        raise ConfigError(str(error)) from error
    return Compiler(cache, genesis.engine_id, modules)


async def _stop_on_signal(
    scope: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(*stop_signals()) as signals:
        task_status.started()  # from now on, not only once the node runs
        async for number in signals:
            log.info("stopping", signal=signal.Signals(number).name)
            scope.cancel()
