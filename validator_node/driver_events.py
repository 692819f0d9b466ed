"""What goes into the consensus driver's queue, and whom it tells what happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from consensus import inputs
from consensus.messages import Evidence
from consensus.validators import Voters
from protocol.records.batch import Header
from protocol.records.checkpoint import CheckpointCertificate
from protocol.records.statement import Statement
from validator_node.execution import Outcome
from validator_node.outbox import LinkMessage


@dataclass(frozen=True, slots=True)
class OwnStatement:
    """A statement of this validator: durable first, then sent to everybody."""

    statement: Statement


@dataclass(frozen=True, slots=True)
class FromPeer:
    """Something a validator sent, and who it was."""

    peer: int
    message: LinkMessage


Turn = inputs.Input | Statement | OwnStatement | FromPeer
"""One item of a turn."""

OnExecuted = Callable[[Header, Outcome], None]
OnEpoch = Callable[[Voters, int | None], None]
"""The new voters, and this node's index among them or None."""
OnStable = Callable[[CheckpointCertificate], None]
OnEvidence = Callable[[Evidence], None]
OnRefused = Callable[[int, str], None]
"""The sender's index, and why its message changed nothing."""


@dataclass
class DriverEvents:
    """Listeners, called from the driver's task in the order they were added."""

    executed: list[OnExecuted] = field(default_factory=list)
    epoch_began: list[OnEpoch] = field(default_factory=list)
    stable: list[OnStable] = field(default_factory=list)
    evidence: list[OnEvidence] = field(default_factory=list)
    refused: list[OnRefused] = field(default_factory=list)
