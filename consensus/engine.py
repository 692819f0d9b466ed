"""The engine: one replica of stake-weighted PBFT as a pure state machine.

`step(input) -> effects`. It has no clock, socket, disk or randomness; time reaches it as fired
timers, and keys as the two functions `sign` and `verify`. The rules stand in the modules that keep
them:

| module | what |
|---|---|
| `validators`, `proposer` | weights, quorum, blocking weight, stake cap, schedule (1, 6, 13) |
| `certificate`, `ballots` | votes counted and proven (1, 3, 18) |
| `agreement` | propose, approve, commit, decide (2, 4, 5, 7) |
| `ancestors` | what a decided slot decides with it (4) |
| `succession` | view change (7, 9, 10) |
| `patience` | timers, back-off, rotation (6, 10) |
| `checkpoints`, `epochs` | executed state certified, sets handed over (11, 12) |
| `evidence` | contradictions proven and told (18) |
| `catchup`, `recovery`, `transfer` | behind, restarted, restarted from a snapshot (7, 8, 10, 19) |

A message that is stale, malformed, wrongly signed or otherwise of no use changes nothing and gives
one `Refused` effect with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable

from consensus import (
    agreement,
    ancestors,
    catchup,
    checkpoints,
    epochs,
    evidence,
    succession,
)
from consensus.certificate import Verify
from consensus.core import Core, Sign, UnwantedError
from consensus.effects import Effect, Persist, Refused
from consensus.inputs import (
    BatchChecked,
    Edge,
    Executed,
    Input,
    Learned,
    LinkUp,
    Propose,
    Received,
    TimerFired,
    WorkPending,
)
from consensus.messages import (
    BatchBody,
    DecidedSlot,
    Evidence,
    FetchBatch,
    Message,
    NewView,
    PrePrepare,
    Status,
    ViewChange,
    Vote,
)
from consensus.patience import Patience
from consensus.recovery import live_records, restore
from consensus.validators import Voters
from protocol.errors import ProtocolError
from protocol.records.batch import Batch, Certificate
from protocol.records.checkpoint import CheckpointCertificate, CheckpointVote
from protocol.records.genesis import Parameters


class Engine:
    """One replica. `me` is its index in the set, or None for an observer that never signs.

    An observer with a `key` of its own signs from the epoch on whose set names that key. Before the
    epoch `signs_from` nobody signs here: what the key has promised till then is not fully known.
    """

    def __init__(
        self,
        voters: Voters,
        me: int | None,
        *,
        sign: Sign,
        verify: Verify,
        parameters: Parameters,
        genesis_digest: bytes,
        executed: Certificate | None = None,
        stable: CheckpointCertificate | None = None,
        edge: Edge | None = None,
        persisted: Iterable[Persist] = (),
        key: bytes | None = None,
        signs_from: int = 0,
    ) -> None:
        self.core = Core(voters, me, sign, verify, parameters, genesis_digest, key, signs_from)
        self._patience = Patience(self.core)
        restore(self.core, executed, stable, edge, persisted)

    @property
    def view(self) -> int:
        """The floor view."""
        return self.core.view

    @property
    def height(self) -> int:
        """The last slot handed over for execution."""
        return self.core.height

    @property
    def primary(self) -> int:
        """The index of the floor view's primary."""
        return self.core.voters.primary(self.core.view)

    @property
    def patience_ms(self) -> int:
        """How long a decision may take now before something is said again."""
        return self._patience.steady_ms

    @property
    def open_slot(self) -> int | None:
        """The slot this replica may propose for now, or None."""
        return agreement.open_slot(self.core)

    @property
    def in_flight(self) -> list[Batch]:
        """The batches above the height that are accepted in this view or decided, in order."""
        found = []
        for _, slot in sorted(self.core.slots.items()):
            digest = slot.decided.header.digest if slot.decided else slot.accepted
            if digest is not None and digest in slot.bodies:
                found.append(slot.bodies[digest])
        return found

    def live_records(self) -> list[Persist]:
        """Return what a compacted journal must still hold, besides the signing guard's vows."""
        return live_records(self.core)

    def wants(self, message: Message) -> bool:
        """Return whether a message could change anything, before any signature is verified."""
        if isinstance(message, Vote):
            return agreement.wants_vote(self.core, message) is None
        if isinstance(message, DecidedSlot):
            return message.certificate.header.seq > self.core.height
        if isinstance(message, CheckpointVote | CheckpointCertificate):
            return message.checkpoint.seq > self.core.stable_seq
        return True

    def step(self, event: Input) -> list[Effect]:
        """Apply one input and return the effects, to be performed in order."""
        core = self.core
        try:
            self._apply(event)
        except UnwantedError as refusal:
            core.emit(Refused(_peer(event), refusal.reason))
        except ProtocolError as error:
            core.emit(Refused(_peer(event), error.reason))
        self._advance()
        return core.take_effects()

    def _apply(self, event: Input) -> None:
        core = self.core
        match event:
            case Received(peer, message):
                self._receive(peer, message)
            case Learned(message):
                if isinstance(message, DecidedSlot):
                    catchup.learn(core, message)
                else:
                    checkpoints.on_certificate(core, message)
            case TimerFired(timer):
                self._patience.on_timer(timer)
            case WorkPending(pending):
                core.pending = pending
            case Propose(batch):
                agreement.propose(core, batch)
            case BatchChecked():
                agreement.on_batch_checked(core, event)
            case LinkUp(peer):
                catchup.on_link_up(core, peer)
            case Executed():
                checkpoints.on_executed(core, event)
                self._patience.learn(event.took_ms)

    def _receive(self, peer: int, message: Message) -> None:
        core = self.core
        match message:
            case Vote():
                agreement.on_vote(core, peer, message)
            case PrePrepare():
                agreement.on_pre_prepare(core, message)
            case ViewChange():
                succession.on_view_change(core, peer, message)
            case NewView():
                succession.on_new_view(core, message)
            case CheckpointVote():
                checkpoints.on_checkpoint_vote(core, peer, message)
            case CheckpointCertificate():
                checkpoints.on_certificate(core, message)
            case Evidence():
                evidence.on_evidence(core, message)
            case Status():
                catchup.on_status(core, peer, message)
            case FetchBatch():
                catchup.on_fetch(core, peer, message)
            case BatchBody():
                catchup.on_body(core, message)
            case DecidedSlot():
                catchup.on_decided(core, peer, message)

    def _advance(self) -> None:
        """Do whatever has become possible, until nothing more is."""
        core = self.core
        moved = True
        while moved:
            agreement.check_fresh(core)
            agreement.commit_prepared(core)
            moved = agreement.decide(core)
            ancestors.commit_ancestors(core)
            moved = ancestors.decide_ancestors(core) or moved
            moved = agreement.deliver(core) or moved
            if core.tip_certificate is not None:
                catchup.raise_floor(core, core.tip_certificate.view)
        while core.contradictions:
            evidence.report(core, *core.contradictions.pop(0))
        if epochs.is_due(core):
            epochs.begin_epoch(core)
        if agreement.is_hopeless(core):
            succession.start_view_change(core, core.view + 1)
        if not core.changing and core.tip_seq >= core.base_seq + core.parameters.term:
            succession.start_view_change(core, core.view + 1)
        self._patience.update()


def _peer(event: Input) -> int:
    return event.peer if isinstance(event, Received | LinkUp) else -1
