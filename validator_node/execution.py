"""Execution: the table from action to the pure function that applies it.

No trio, no I/O. A batch is a list of typed actions, executed in order over one view of the
replicated state. What does not apply is a no-op with a reason; it never fails a batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from consensus.validators import Voters
from protocol.actions import RegistryChange
from protocol.codec import digest_of
from protocol.records.batch import Batch, Header
from protocol.records.canary import CanaryItem
from protocol.records.consensus_key import SignedKey
from protocol.records.genesis import Parameters
from protocol.records.result import Result
from protocol.records.statement import Statement, VerdictItem
from protocol.records.submission import SignedSubmission
from protocol.records.weights import EpochWeights, weights_key
from protocol.view import View
from registry import epochs, keys, lifecycle
from registry.access import challenges, current_epoch, read, write
from registry.catalog import apply_registry_change
from registry.election import bind_key
from registry.pruning import prune
from registry.submissions import (
    Admitted,
    Ended,
    Event,
    NoOp,
    SlotContext,
    admit,
    best_scores,
    expire,
    state_verdict,
)
from validator_node.epoch_weights import epoch_weights


@dataclass
class Outcome:
    """What executing one batch brought about."""

    admitted: list[Admitted] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    weights: list[EpochWeights] = field(default_factory=list)
    no_ops: list[NoOp] = field(default_factory=list)
    decided: list[lifecycle.Decided] = field(default_factory=list)
    """Candidates that were activated or refused."""
    catalogue_changed: bool = False
    """Whether a change of the owner took effect: there may be a new candidate."""
    edge: int | None = None
    """The slot that ends the epoch, once that is agreed and until it is executed."""

    def take(self, event: Event | None) -> None:
        """File one event."""
        if isinstance(event, Admitted):
            self.admitted.append(event)
        elif isinstance(event, Ended):
            self.results.append(event.result)
            if event.writes_refused is not None:
                self.no_ops.append(NoOp(event.writes_refused, event.result.submission_id))
        elif isinstance(event, NoOp):
            self.no_ops.append(event)

    def take_report(self, item: CanaryItem, found: lifecycle.Decided | str | None) -> None:
        """File what a report on a candidate brought about."""
        if isinstance(found, lifecycle.Decided):
            self.decided.append(found)
        elif found is not None:
            self.no_ops.append(NoOp(found, item.challenge))


def execute(
    view: View, voters: Voters, parameters: Parameters, header: Header, batch: Batch
) -> Outcome:
    """Apply `batch` to `view` and return what happened.

    A batch without actions changes nothing that is not due by its sequence number alone, so that
    naming a pending state root does not make another one.
    """
    outcome = Outcome()
    slot = SlotContext(
        seq=header.seq,
        digest=header.digest,
        time_ms=epochs.network_time(view, voters, header.seq),
        epoch=current_epoch(view),
        dispute_after=parameters.dispute_after,
        max_pending_per_hotkey=parameters.max_pending_per_hotkey,
    )
    for event in expire(view, slot):
        outcome.take(event)
    outcome.decided += lifecycle.expire(view, slot.seq)
    outcome.decided += lifecycle.rejudge(view, voters, slot.seq)
    if batch.actions:
        write(view, keys.TIME, keys.Time(time_ms=slot.time_ms, seq=slot.seq))
        items = sum(len(one.items) for one in batch.actions if isinstance(one, Statement))
        prune(view, slot.epoch, parameters.keep_epochs, items)
    for action in batch.actions:
        if isinstance(action, Statement):
            _apply_statement(view, voters, slot, action, outcome)
        elif isinstance(action, RegistryChange):
            reason = apply_registry_change(view, action, slot.seq)
            outcome.catalogue_changed |= reason is None
            if reason is not None:
                outcome.no_ops.append(NoOp(reason, digest_of(action.content)))
        else:
            reason = epochs.fix_edge(view, voters, slot.seq + parameters.window, action)
            if reason is not None:
                outcome.no_ops.append(NoOp(reason, action.block_hash))
    fixed = epochs.fixed_edge(view)
    if fixed is not None and fixed.seq == slot.seq:
        outcome.weights.append(_close_epoch(view, slot.epoch, fixed))
    elif fixed is not None:
        outcome.edge = fixed.seq
    return outcome


def _apply_statement(
    view: View,
    voters: Voters,
    slot: SlotContext,
    statement: Statement,
    outcome: Outcome,
) -> None:
    header = statement.header
    mark_key = keys.MARK + keys.u16(header.signer)
    mark = read(view, keys.Mark, mark_key) or keys.Mark(counter=0, clock_ms=0)
    if header.counter != mark.counter + 1:
        outcome.no_ops.append(NoOp("counter", digest_of(header)))
        return
    write(view, mark_key, keys.Mark(counter=header.counter, clock_ms=header.clock_ms))
    for item in statement.items:
        if isinstance(item, SignedSubmission):
            outcome.take(admit(view, slot, item))
        elif isinstance(item, VerdictItem):
            outcome.take(state_verdict(view, voters, slot, header.signer, item))
        elif isinstance(item, CanaryItem):
            outcome.take_report(item, lifecycle.report(view, voters, header.signer, item))
        elif isinstance(item, SignedKey):
            reason = bind_key(view, item)
            if reason is not None:
                outcome.no_ops.append(NoOp(reason, digest_of(item.binding)))
        else:
            reason = epochs.observe(view, header.signer, item)
            if reason is not None:
                outcome.no_ops.append(NoOp(reason, item.block_hash))


def _close_epoch(view: View, ended: int, fixed: keys.FixedEdge) -> EpochWeights:
    """End the epoch and store its weights: each miner's share of each challenge's emission."""
    metagraph = epochs.close(view, fixed)
    weights = epoch_weights(ended, metagraph, best_scores(view, ended), challenges(view))
    write(view, weights_key(ended), weights)
    return weights
