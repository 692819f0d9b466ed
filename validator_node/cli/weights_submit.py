"""`validator-node weights submit`: the newest certified weights of a stopped node, to the chain.

A running node submits by itself. This is for looking at what it would do, and for an epoch that it
was stopped in. What was attempted is remembered where the node remembers it, so nothing is sent
twice.
"""

from __future__ import annotations

from pathlib import Path

import trio
import typer

from chain.errors import ChainError
from chain.preflight import Ready, Refused, Wait
from chain.submitter_epoch import Alert, EpochOrder, EpochSubmitter
from chain.submitter_outcomes import Committed, Outcome, ReadBack, Revealed
from protocol.records.genesis import Genesis
from validator_node.chain_access import ChainAccess, open_chain, patience
from validator_node.config import NodeConfig, load_config, load_genesis
from validator_node.epoch_order import epoch_order
from validator_node.errors import ConfigError, NodeError
from validator_node.keys import Keys, load_keystore, passphrase
from validator_node.store import Store
from validator_node.submission_book import SubmissionBook

CONNECT_DEADLINE_S = 90.0
SUBMIT_DEADLINE_S = 3600.0


class NotSubmittedError(NodeError):
    """The weights are not on the chain; the message says why."""


def submit_weights(config: Path, *, dry_run: bool) -> None:
    """Submit, or say what would be done. Raises `NodeError` if nothing could be."""
    loaded = load_config(config)
    genesis = load_genesis(loaded.genesis)
    keys = load_keystore(loaded.keystore, passphrase(loaded.passphrase_file))
    store = Store.open(loaded.state_dir / "db", genesis)
    try:
        weights = store.weights(store.epoch - 1) if store.epoch > 0 else None
        if weights is None:
            raise ConfigError("no epoch has ended yet: there are no weights to submit")
        order = epoch_order(store.tree.view(), weights, 0)
    finally:
        store.close()
    trio.run(_run, loaded, genesis, keys, order, dry_run)


async def _run(
    config: NodeConfig, genesis: Genesis, keys: Keys, order: EpochOrder, dry_run: bool
) -> None:
    async with open_chain(config, genesis) as access:
        book = SubmissionBook.open(
            config.state_dir / "submissions",
            network_id=genesis.network_id,
            hotkey=keys.hotkey.public_key,
        )
        submitter = EpochSubmitter(
            access.chain,
            keys.hotkey,
            book,
            patience(access, genesis),
            on_no_weights=config.on_no_weights,
            on_alert=_show_alert,
        )
        version_key = await _version_key(access)
        asked = EpochOrder(
            epoch=order.epoch,
            since_block=order.since_block,
            vectors=order.vectors,
            seed=order.seed,
            version_key=version_key,
        )
        if dry_run:
            for mechanism, decision in (await submitter.preview(asked)).items():
                typer.echo(f"epoch {asked.epoch}, mechanism {mechanism}: {_decision(decision)}")
            return
        with trio.move_on_after(SUBMIT_DEADLINE_S):
            outcomes = await submitter.submit(asked)
            _show(asked.epoch, outcomes)
            return
        raise NotSubmittedError(f"not settled within {SUBMIT_DEADLINE_S:g} s; run it again")


async def _version_key(access: ChainAccess) -> int:
    """Return the subnet's version key, once the chain answers."""
    with trio.move_on_after(CONNECT_DEADLINE_S):
        while True:
            try:
                head = await access.chain.head()
                metagraph = await access.chain.metagraph(head.number)
            except ChainError as error:
                last = str(error)
                await trio.sleep(access.poll_s)
            else:
                return metagraph.rules.version_key
    raise NotSubmittedError(f"the chain does not answer: {last}")


def _decision(decision: Ready | Wait | Outcome) -> str:
    if isinstance(decision, Ready):
        return "would be sent now"
    if isinstance(decision, Wait):
        return f"would be sent in {decision.blocks} blocks ({decision.cause})"
    if isinstance(decision, Refused):
        return f"would not be sent, {decision.code.value}: {decision.reason}"
    return f"was carried to the chain already: {decision}"


def _show(epoch: int, outcomes: dict[int, Outcome]) -> None:
    failed = []
    for mechanism, outcome in sorted(outcomes.items()):
        typer.echo(f"epoch {epoch}, mechanism {mechanism}: {outcome}")
        if not isinstance(outcome, ReadBack | Revealed | Committed):
            failed.append(str(mechanism))
    if failed:
        raise NotSubmittedError(f"not on the chain: mechanism {', '.join(failed)}")


def _show_alert(alert: Alert) -> None:
    typer.echo(f"{alert.name.value}: {alert.reason} {alert.advice}".strip(), err=True)
