"""`validator-node receipt`: fetch a receipt from any node, verify one offline."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import trio
import typer

from consensus.receipts import MAX_RECEIPT_BYTES, KnownSets, verify_receipt, voters_from
from protocol.codec import decode, encode
from protocol.errors import ProtocolError
from protocol.identity import ss58_of, verify_consensus
from protocol.records.genesis import Genesis
from protocol.records.result import Replicated, Result
from validator_node.cli.payload import read_hash
from validator_node.config import load_genesis
from validator_node.errors import NodeError
from validator_node.files import read_file, write_file
from validator_node.network.errors import NetworkError
from validator_node.terminal import say

app = typer.Typer(no_args_is_help=True, help="Receipts: fetch, verify.")


class ReceiptError(NodeError):
    """A receipt that does not hold, or that a node does not have."""


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="the receipt, as a node served it")],
    genesis: Annotated[Path, typer.Option(help="the network's genesis file")],
    sets: Annotated[
        Path | None, typer.Option(help="the file of `fetch --sets`: who voted since the genesis")
    ] = None,
) -> None:
    """Verify a receipt offline, with the genesis and, once its validators changed, their sets."""
    data = read_file(file, "receipt", MAX_RECEIPT_BYTES)
    loaded = load_genesis(genesis)
    voters_of = _known_sets(loaded, sets)
    try:
        receipt = verify_receipt(data, voters_of, verify_consensus)
    except ProtocolError as error:
        raise ReceiptError(f"{file} is not a valid receipt: {error}") from error
    certificate = receipt.certificate
    assumed = voters_of.unproven(receipt.certificate)
    say("valid")
    if assumed is not None:
        say(f"assumed: {assumed}")
    for line in describe(receipt.result):
        say(line)
    say(f"certified by slot {certificate.header.seq}, view {certificate.view}")
    say(f"batch {certificate.header.digest.hex()}")


def _known_sets(genesis: Genesis, file: Path | None) -> KnownSets:
    from validator_node.sync.handovers import MAX_FILE_BYTES, read_handovers

    if file is None:
        return voters_from(genesis)
    data = read_file(file, "sets file", MAX_FILE_BYTES)
    try:
        return voters_from(genesis, read_handovers(data), verify_consensus)
    except ProtocolError as error:
        raise ReceiptError(f"sets {file}: {error}; fetch them again with --sets") from error


def describe(result: Result) -> list[str]:
    """Return a result as readable lines."""
    lines = [
        f"submission {result.submission_id.hex()}",
        f"miner {ss58_of(result.hotkey)} (uid {result.uid})",
        f"challenge {result.challenge_id} version {result.challenge_version}",
        f"epoch {result.epoch}, slots {result.admitted_seq} (admitted) to {result.settled_seq}",
    ]
    basis = result.basis
    if isinstance(basis, Replicated):
        lines.append(f"outcome {basis.outcome_class}, score {basis.score}")
        lines.append(f"verdict {basis.verdict_hash.hex()}")
    else:
        lines.append(f"no score: {basis}")
    return lines


@app.command()
def fetch(
    submission_id: Annotated[str, typer.Argument(help="submission id, 64 hex digits")],
    node: Annotated[str, typer.Option(help="multiaddr of any node, with /p2p/ peer id")],
    out: Annotated[Path, typer.Option(help="where to write the receipt")],
    host: Annotated[str, typer.Option(help="local address to listen on")] = "127.0.0.1",
    sets: Annotated[
        Path | None, typer.Option(help="where to write the sets that voted since the genesis")
    ] = None,
) -> None:
    """Fetch the receipt of a submission from a node and write its bytes to a file."""
    wanted = read_hash("SUBMISSION_ID", submission_id)
    trio.run(_fetch, wanted, node, out, host, sets)


async def _fetch(wanted: bytes, node: str, out: Path, host: str, sets: Path | None) -> None:
    from validator_node.network.network import NetworkConfig, open_network
    from validator_node.queries import (
        DEADLINE_S,
        MAX_RECEIPT_REPLY_BYTES,
        RECEIPT_PROTOCOL,
        ReceiptReply,
    )
    from validator_node.sync.handovers import Handovers, ask_handovers

    config = NetworkConfig(
        seed=secrets.token_bytes(32), listen_host=host, listen_port=0, bootstrap=(node,)
    )
    async with open_network(config) as network:
        with trio.move_on_after(DEADLINE_S) as waiting:
            await network.wait_connected(1)
        if waiting.cancelled_caught:
            raise NetworkError(f"{node} did not answer within {DEADLINE_S:g} s")
        data = await network.request(
            node.rsplit("/p2p/", 1)[-1],
            RECEIPT_PROTOCOL,
            wanted,
            deadline_s=DEADLINE_S,
            max_reply_bytes=MAX_RECEIPT_REPLY_BYTES,
        )
        if sets is not None:
            with _understood(node):
                known = await ask_handovers(network, node.rsplit("/p2p/", 1)[-1])
            write_file(sets, "sets file", encode(Handovers(handovers=known)))
            say(f"{sets}: the sets of {len(known) + 1} epochs")
    with _understood(node):
        reply = decode(ReceiptReply, data)
    if not reply.receipt:
        reason = f" ({reply.reason})" if reply.reason else ""
        raise ReceiptError(f"no receipt: the submission is {reply.state}{reason} at this node")
    write_file(out, "receipt", reply.receipt)
    say(f"{out}: {len(reply.receipt)} bytes")


@contextmanager
def _understood(node: str) -> Iterator[None]:
    """Turn an answer that makes no sense into an error of the network."""
    try:
        yield
    except ProtocolError as error:
        raise NetworkError(f"{node} gave an answer that makes no sense: {error}") from error
