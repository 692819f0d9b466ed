"""`validator-node weights submit`: the newest certified weights of a stopped node, to the chain.

A running node submits by itself. This is for looking at what it would do, and for an epoch that it
was stopped in. What was attempted is remembered where the node remembers it, so nothing is sent
twice. Weights of an epoch that the chain has left are sent only if that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from chain.errors import ChainError
from chain.interface import Block
from chain.preflight import Ready, Refused, Wait
from chain.submitter_epoch import Alert, EpochOrder, EpochSubmitter
from chain.submitter_outcomes import Committed, Outcome, ReadBack, Revealed
from protocol.records.genesis import Genesis
from registry.election import electorate
from validator_node.chain_access import ChainAccess, open_chain, patience
from validator_node.config import NodeConfig, load_config, load_genesis
from validator_node.epoch_order import epoch_order
from validator_node.errors import AbsentError, NodeError
from validator_node.keys import Keys, load_keystore, passphrase
from validator_node.opening import look_at_store, open_store
from validator_node.store import Store
from validator_node.submission_book import SubmissionBook
from validator_node.terminal import say

CONNECT_DEADLINE_S = 90.0
SUBMIT_DEADLINE_S = 3600.0


class NotSubmittedError(NodeError):
    """The weights are not on the chain; the message says why."""


def submit_weights(config: Path, *, dry_run: bool, stale: bool = False) -> None:
    """Submit, or say what would be done; weights that the chain has left only with `stale`.

    The database stays locked until it is over, so that no node sends at the same time. Raises
    `NodeError` if nothing could be done.
    """
    loaded = load_config(config)
    genesis = load_genesis(loaded.genesis)
    keys = load_keystore(loaded.keystore, passphrase(loaded.passphrase_file))
    opened = look_at_store if dry_run else open_store  # both keep the node from starting
    with opened(loaded.state_dir, genesis) as store:
        order = _certified(store)
        with _named():
            trio.run(_run, loaded, genesis, keys, order, dry_run, stale)


def _certified(store: Store) -> EpochOrder:
    """Return what the newest epoch's end has certified."""
    weights = store.weights(store.epoch - 1) if store.epoch > 0 else None
    now = electorate(store.tree.view())
    if weights is None or now is None:
        raise AbsentError("no epoch has ended yet: there are no weights to submit")
    certified_at = now.since + store.genesis.parameters.window
    if store.height < certified_at:
        raise NotSubmittedError(
            f"the weights of epoch {weights.epoch} are not certified yet: slot {certified_at} "
            f"certifies them, and this node has slots up to {store.height}; run it until then"
        )
    return epoch_order(store.tree.view(), weights)


@contextmanager
def _named() -> Iterator[None]:
    """Turn trouble with the chain, also inside groups, into the error that an operator sees."""
    try:
        yield
    except ChainError as error:
        raise NotSubmittedError(str(error)) from error
    except BaseExceptionGroup as group:
        if group.split(ChainError)[1] is not None:
            raise
        error_of: BaseException = group
        while isinstance(error_of, BaseExceptionGroup):
            error_of = error_of.exceptions[0]
        raise NotSubmittedError(str(error_of)) from group


async def _run(
    config: NodeConfig,
    genesis: Genesis,
    keys: Keys,
    order: EpochOrder,
    dry_run: bool,
    stale: bool,
) -> None:
    async with open_chain(config, genesis) as access:
        book = SubmissionBook.open(
            config.state_dir / "submissions",
            network_id=genesis.network_id,
            hotkey=keys.hotkey.public_key,
            create=not dry_run,
        )
        submitter = EpochSubmitter(
            access.chain,
            keys.hotkey,
            book,
            patience(access, genesis),
            on_no_weights=config.on_no_weights,
            on_alert=_show_alert,
        )
        left = await _left_behind(access, order)
        if dry_run:
            if left:
                say(left)
            for mechanism, decision in (await submitter.preview(order)).items():
                say(f"epoch {order.epoch}, mechanism {mechanism}: {_decision(decision)}")
            return
        if left and not stale:
            raise NotSubmittedError(left)
        with trio.move_on_after(SUBMIT_DEADLINE_S):
            outcomes = await submitter.submit(order)
            _show(order.epoch, outcomes)
            return
        raise NotSubmittedError(f"not settled within {SUBMIT_DEADLINE_S:g} s; run it again")


async def _left_behind(access: ChainAccess, order: EpochOrder) -> str:
    """Return why the weights are not of the chain's present epoch, "" if they are.

    They would spend the rate limit that the weights of the present one need.
    """
    head = await _first_head(access)
    with trio.move_on_after(CONNECT_DEADLINE_S):
        status = await access.chain.epoch_status(head.number)
        if status.first_block <= order.since_block:
            return ""
        return (
            f"the weights of epoch {order.epoch} are of block {order.since_block}, and the chain's "
            f"newest epoch has begun at block {status.first_block}: run the node, which closes "
            "it; with --stale these are sent all the same"
        )
    raise NotSubmittedError("the chain does not say which epoch it is in")


async def _first_head(access: ChainAccess) -> Block:
    """Return the chain's head, once it answers."""
    last = "no answer in time"
    with trio.move_on_after(CONNECT_DEADLINE_S):
        while True:
            try:
                return await access.chain.head()
            except ChainError as error:
                last = str(error)
                await trio.sleep(access.poll_s)
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
        say(f"epoch {epoch}, mechanism {mechanism}: {outcome}")
        if not isinstance(outcome, ReadBack | Revealed | Committed):
            failed.append(str(mechanism))
    if failed:
        raise NotSubmittedError(f"not on the chain: mechanism {', '.join(failed)}")


def _show_alert(alert: Alert) -> None:
    say(f"{alert.name.value}: {alert.reason} {alert.advice}".strip(), err=True)
