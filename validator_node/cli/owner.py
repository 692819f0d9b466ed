"""`validator-node owner`: publish a change of the catalogue, show where a challenge stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import trio
import typer
from rich.table import Table

from validator_node.errors import AbsentError, NodeError
from validator_node.terminal import Terminal, say, say_table

if TYPE_CHECKING:
    from protocol.identity import Hotkey
    from protocol.records.genesis import Genesis
    from validator_node.owner.queries import RegistryReply
    from validator_node.owner.release import Release

app = typer.Typer(no_args_is_help=True, help="The subnet's owner: publish, status.")

DEADLINE_S = 900.0

GenesisOption = Annotated[Path, typer.Option(help="the network's genesis file")]
PeerOption = Annotated[
    list[str],
    typer.Option("--peer", "--node", help="multiaddr of a node, with /p2p/ peer id; repeatable"),
]
HostOption = Annotated[str, typer.Option(help="local address to listen on")]


@app.command()
def publish(
    challenge: Annotated[
        str,
        typer.Argument(help="the challenge's folder or platform.toml; with --retire also its id"),
    ],
    genesis: GenesisOption,
    peer: PeerOption,
    key: Annotated[
        Path, typer.Option(help="the owner's hotkey: keystore, Bittensor hotkey file, or seed")
    ],
    passphrase_file: Annotated[
        Path | None, typer.Option(help="of a keystore; default: VALIDATOR_PASSPHRASE")
    ] = None,
    emission: Annotated[
        int | None, typer.Option(min=1, max=2**32 - 1, help="change only the emission")
    ] = None,
    retire: Annotated[
        bool, typer.Option("--retire", help="end the challenge: its emission becomes 0")
    ] = False,
    deadline: Annotated[
        float, typer.Option(min=1, help="seconds until it has to be decided")
    ] = DEADLINE_S,
    host: HostOption = "127.0.0.1",
) -> None:
    """Sign the challenge's next version and bring it into the network; wait until it is active.

    Exit codes: 0 active, 3 refused by the network, 4 not decided in time; others as of all
    commands (docs/operators.md).
    """
    from validator_node.config import load_genesis
    from validator_node.owner.key_file import load_owner_key
    from validator_node.owner.publisher import NotActiveError

    loaded = load_genesis(genesis)
    owner_key = load_owner_key(key, passphrase_file)
    release = _release(challenge, emission, retire=retire)
    try:
        trio.run(_publish, release, loaded, owner_key, tuple(peer), host, deadline)
    except NotActiveError as error:
        say(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from error


async def _publish(
    release: Release,
    genesis: Genesis,
    key: Hotkey,
    peers: tuple[str, ...],
    host: str,
    deadline_s: float,
) -> None:
    from validator_node.network.network import open_network
    from validator_node.owner.publisher import Publisher, network_config

    console = Terminal(soft_wrap=True)
    async with open_network(network_config(peers, host)) as network:
        publisher = Publisher(network, genesis, peers, key, lambda line: console.print(line))
        with console.status("waiting for the network"):
            await publisher.publish(release, deadline_s)


def _release(challenge: str, emission: int | None, *, retire: bool) -> Release:
    from validator_node.owner.release import Release, challenge_id_of, load_release

    if not retire:
        return load_release(Path(challenge), emission)
    if emission is not None:
        raise NodeError("--retire does not go with --emission: retiring sets it to 0")
    return Release(challenge_id=challenge_id_of(challenge))


@app.command()
def status(
    challenge: Annotated[str, typer.Argument(help="the challenge's id, folder or platform.toml")],
    genesis: GenesisOption,
    peer: PeerOption,
    host: HostOption = "127.0.0.1",
) -> None:
    """Show a challenge's active version, its candidate, and what became of the last one."""
    from validator_node.config import load_genesis
    from validator_node.owner.publisher import ask, connect, network_config
    from validator_node.owner.queries import RegistryQuery
    from validator_node.owner.release import challenge_id_of

    loaded = load_genesis(genesis)
    query = RegistryQuery(challenge_id=challenge_id_of(challenge))
    peers = tuple(peer)

    async def run() -> RegistryReply:
        from validator_node.network.network import open_network

        async with open_network(network_config(peers, host)) as network:
            await connect(network, peers)
            return await ask(network, loaded, peers, query)

    reply = trio.run(run)
    if reply.active is None and reply.candidate is None and reply.decision is None:
        raise AbsentError(f"the network has never had a challenge {query.challenge_id!r}")
    _print(query.challenge_id, reply)


def _print(challenge_id: str, reply: RegistryReply) -> None:
    from protocol.identity import ss58_of

    table = Table(show_header=False, title=challenge_id)
    rows = {
        "owner": ss58_of(reply.owner),
        "changes committed": f"{reply.sequence}, by slot {reply.height}",
    }
    if (active := reply.active) is not None:
        what = f"emission {active.emission}" if active.emission else "retired"
        rows["active"] = f"version {active.version}, {what}, module {active.module_hash.hex()}"
    if (candidate := reply.candidate) is not None:
        rows["candidate"] = (
            f"version {candidate.challenge.version} since slot {candidate.seq}, "
            f"{len(candidate.reports)} of {reply.validators} reports, "
            f"module {candidate.challenge.module_hash.hex()}"
        )
    if (decision := reply.decision) is not None:
        rows["last decision"] = f"version {decision.version}: {decision.reason or 'active'}"
        for report in decision.reports:
            if report.failure:
                rows[f"differed: {ss58_of(report.hotkey)}"] = report.failure
    for name, value in rows.items():
        table.add_row(name, value)
    say_table(table, soft_wrap=True)
