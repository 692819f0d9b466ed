"""`validator-node devchain`: a development chain that the Bittensor SDK can talk to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from validator_node.terminal import say

if TYPE_CHECKING:
    from chain.devchain.config import RunConfig, SubnetConfig

_WELL_KNOWN = ("//Alice", "//Bob", "//Charlie", "//Dave")
_WELL_KNOWN_STAKE_RAO = 1_000_000_000_000


def devchain(
    port: Annotated[int, typer.Option(help="port of the chain; 0 for any free one")] = 9944,
    admin_port: Annotated[
        int | None, typer.Option(help="port that faults never touch; default: the next one")
    ] = None,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    block_time: Annotated[float, typer.Option(help="seconds between two blocks")] = 1.0,
    finality_lag: Annotated[int, typer.Option(help="blocks until a block is final")] = 1,
    netuid: Annotated[int | None, typer.Option(help="the subnet's number")] = None,
    tempo: Annotated[int | None, typer.Option(help="blocks in an epoch")] = None,
    weights_rate_limit: Annotated[
        int | None, typer.Option(help="least distance between two weight calls, in blocks")
    ] = None,
    commit_reveal: Annotated[
        bool | None, typer.Option(help="whether weights are committed first")
    ] = None,
    mechanisms: Annotated[int | None, typer.Option(help="how many mechanisms there are")] = None,
    neurons: Annotated[
        Path | None,
        typer.Option(help="TOML file of the subnet (`SubnetConfig`); default: //Alice to //Dave"),
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="file to go on from after a restart; default: none")
    ] = None,
) -> None:
    """Run a development chain until SIGINT, SIGTERM or SIGHUP.

    It speaks substrate JSON-RPC with subtensor's metadata, has one subnet and no money. What can
    be broken on it stands in `chain/devchain/admin.py`. It is not for anything of value.
    """
    rules = {
        "tempo": tempo,
        "weights_rate_limit": weights_rate_limit,
        "commit_reveal": commit_reveal,
        "mechanisms": mechanisms,
    }
    settings = {
        "host": host,
        "port": port,
        "admin_port": admin_port,
        "block_time_ms": round(block_time * 1000),
        "finality_lag": finality_lag,
        "state_file": state,
    }
    _run(neurons, netuid, rules, settings)


def _run(
    neurons: Path | None,
    netuid: int | None,
    rules: dict[str, int | None],
    settings: dict[str, object],
) -> None:
    import pydantic
    import trio

    from chain.devchain.config import RunConfig
    from chain.devchain.errors import DevChainError
    from validator_node.errors import ConfigError

    try:
        run = RunConfig.model_validate(settings)
        trio.run(_serve, _subnet(neurons, netuid, rules), run)
    except* (DevChainError, pydantic.ValidationError) as group:
        raise ConfigError(f"devchain: {_first(group)}") from group


def _first(group: BaseExceptionGroup[Exception]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _subnet(path: Path | None, netuid: int | None, rules: dict[str, int | None]) -> SubnetConfig:
    from bittensor_core import Keypair

    from chain.devchain.config import NeuronConfig, SubnetConfig, load_subnet

    if path is not None:
        subnet = load_subnet(path)
    else:
        pairs = [Keypair.create_from_uri(uri) for uri in _WELL_KNOWN]
        subnet = SubnetConfig(
            neurons=tuple(
                NeuronConfig(
                    hotkey=pair.ss58_address, stake=_WELL_KNOWN_STAKE_RAO, validator_permit=True
                )
                for pair in pairs
            )
        )
    given = {name: value for name, value in rules.items() if value is not None}
    changes: dict[str, object] = {"rules": {**subnet.rules, **given}}
    if netuid is not None:
        changes["netuid"] = netuid
    return SubnetConfig.model_validate({**subnet.model_dump(), **changes})


async def _serve(subnet: SubnetConfig, run: RunConfig) -> None:
    import trio

    from chain.devchain.server import open_devchain
    from validator_node.stopping import stop_signals

    with trio.open_signal_receiver(*stop_signals()) as signals:
        async with open_devchain(subnet, run) as chain:
            neurons = len(chain.ledger.head.state.neurons)
            say(
                f"devchain {chain.url} (admin {chain.admin_url}): subnet {subnet.netuid}, "
                f"{neurons} neurons, block {chain.ledger.head.number}"
            )
            async for _ in signals:
                break
