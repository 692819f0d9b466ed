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
    key: bytes
    """The consensus key at index `peer` when it came: later the index may be somebody else's."""
    message: LinkMessage

    def is_still_from(self, voters: Voters) -> bool:
        """Return whether the index means the same validator in the set of now."""
        return self.peer < len(voters) and voters.key(self.peer) == self.key


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

    def tell_refused(self, peer: int, reason: str) -> None:
        """Tell that a validator's message changed nothing."""
        for on_refused in self.refused:
            on_refused(peer, reason)
