"""The stage: the replicas of one script, what they have on disk, and the messages under way.

It performs effects as the driver does, and checks on the way what no script may break: nobody signs
two things for one vow, and no slot is decided twice differently.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from consensus import effects as fx
from consensus import inputs
from consensus import messages as ms
from consensus.engine import Engine
from consensus.validators import Voters
from protocol.codec import sha256
from protocol.records.batch import Batch, Certificate
from protocol.records.checkpoint import CheckpointCertificate
from protocol.records.genesis import Parameters
from protocol.records.validators import ValidatorSet
from tests.consensus.builders import GENESIS, NETWORK, key_of, sign, verify
from tests.golden.words import Words

OUTCOMES = (fx.Decide, fx.Stable, fx.EpochBegan, fx.Diverged, fx.Report)
TIMERS = (fx.SetTimer, fx.CancelTimer)
STRANGER = 255
"""The index under which a sender outside the receiver's set arrives."""


class StageError(AssertionError):
    """A script asks for what cannot be, or breaks an invariant."""


@dataclass
class Replica:
    name: str
    engine: Engine
    durable: list[fx.Persist] = field(default_factory=list)
    chain: list[tuple[Batch, Certificate]] = field(default_factory=list)
    stable: CheckpointCertificate | None = None
    edge: inputs.Edge | None = None
    alive: bool = True
    cut: bool = False
    trap: str = ""
    """`before` or `after`: the replica crashes at its next write to disk."""
    wrong_from: int | None = None
    """The slot from which it computes another state than everybody else."""

    @property
    def voters(self) -> Voters:
        return self.engine.core.voters

    def index_of(self, name: str) -> int:
        index = self.voters.index_of_key(key_of(name))
        return STRANGER if index is None else index


@dataclass
class Letter:
    origin: str
    to: str
    message: ms.Message


class Stage:
    """Everything a script can see and move."""

    def __init__(self, first_set: ValidatorSet, observers: list[str], parameters: Parameters):
        self.words = Words()
        self.parameters = parameters
        self.first_set = first_set
        self.words.sets[0] = Voters(first_set, NETWORK)
        self.next_sets: dict[int, ValidatorSet] = {}
        """The slot whose execution fixes an epoch's edge -> the set after it."""
        self.invalid: dict[tuple[str, str], str] = {}
        self.wire: list[Letter] = []
        self.sent: list[Letter] = []
        self.vows: dict[tuple, bytes] = {}
        self.decided: dict[int, bytes] = {}
        self.accused: set[str] = set()
        self.timers_shown = False
        members = [self.words.members[member.consensus_key] for member in first_set.members]
        self.replicas = {name: Replica(name, self.build(name)) for name in [*members, *observers]}

    def build(self, name: str, replica: Replica | None = None) -> Engine:
        voters = Voters(self.first_set, NETWORK)
        recovered = {}
        if replica is not None:
            recovered = {
                "executed": replica.chain[-1][1] if replica.chain else None,
                "stable": replica.stable,
                "edge": replica.edge,
                "persisted": list(replica.durable),
            }
        return Engine(
            voters,
            voters.index_of_key(key_of(name)),
            sign=lambda payload: sign(key_of(name), payload),
            verify=verify,
            parameters=self.parameters,
            genesis_digest=GENESIS,
            key=key_of(name),
            **recovered,
        )

    # --- stepping ----------------------------------------------------------------------------

    def step(self, name: str, *events: inputs.Input) -> list[str]:
        """Let inputs happen at a replica, and what follows there at once; return what it does."""
        replica = self.replicas[name]
        lines: list[str] = []
        queue = list(events)
        while queue and replica.alive:
            effects = replica.engine.step(queue.pop(0))
            if replica.trap and any(isinstance(effect, fx.Persist) for effect in effects):
                effects = self.crash(replica, effects, lines)
            for effect in effects:  # names come with the headers, which may stand further down
                self.words.effect(effect, replica.voters)
            for effect in effects:
                if self.timers_shown or not isinstance(effect, TIMERS):
                    lines.append(self.words.effect(effect, replica.voters))
                queue += self.perform(replica, effect)
            if not replica.alive:
                lines.append("crashes")
        return lines

    def crash(self, replica: Replica, effects: list, lines: list[str]) -> list[fx.Effect]:
        """Return the part of a step that a crash lets happen."""
        replica.alive = False
        trap, replica.trap = replica.trap, ""
        if trap == "before":
            lines.append("has nothing of it on disk yet")
            return []
        return [effect for effect in effects if isinstance(effect, fx.Persist)]

    def perform(self, replica: Replica, effect: fx.Effect) -> list[inputs.Input]:
        """Do what an effect asks for; return the inputs that answer it."""
        if isinstance(effect, fx.Persist):
            self.persist(replica, effect)
        match effect:
            case fx.Broadcast(message):
                for name in self.replicas:
                    if name != replica.name:
                        self.send(replica, name, message)
            case fx.Send(peer, message):
                self.send(replica, self.words.peer(peer, replica.voters), message)
            case fx.SendDecided(peer, first, last):
                for batch, proof in replica.chain[first - 1 : last]:
                    message = ms.DecidedSlot(batch=batch, certificate=proof)
                    self.send(replica, self.words.peer(peer, replica.voters), message)
            case fx.SendBody(peer, seq, _):
                batch, proof = replica.chain[seq - 1]
                body = ms.BatchBody(header=proof.header, batch=batch)
                self.send(replica, self.words.peer(peer, replica.voters), body)
            case fx.CheckBatch(view, seq, digest, batch):
                reason = self.invalid.get((replica.name, self.words.batch_name(batch)), "")
                return [inputs.BatchChecked(view, seq, digest, not reason, reason)]
            case fx.Decide(batch, proof):
                return [self.execute(replica, batch, proof)]
            case fx.Stable(proof):
                replica.stable = proof
            case fx.EpochBegan(voters, _):
                self.words.sets[voters.epoch] = voters
            case fx.Report(first, _):
                self.accused.add(self.words.member(first.signer, first.epoch))
        return []

    def persist(self, replica: Replica, effect: fx.Persist) -> None:
        replica.durable.append(effect)
        if isinstance(effect, fx.PersistVow):
            key = (replica.name, effect.phase, effect.epoch, effect.view, effect.seq)
            if self.vows.setdefault(key, effect.message) != effect.message:
                raise StageError(f"{key} is signed twice")

    def execute(self, replica: Replica, batch: Batch, proof: Certificate) -> inputs.Executed:
        header = proof.header
        if header.seq != len(replica.chain) + 1:
            raise StageError(f"{replica.name} decides slot {header.seq} out of order")
        if self.decided.setdefault(header.seq, header.digest) != header.digest:
            raise StageError(f"slot {header.seq} is decided in two ways")
        replica.chain.append((batch, proof))
        if header.seq in self.next_sets:
            edge = header.seq + self.parameters.window
            replica.edge = inputs.Edge(edge, self.next_sets[header.seq])
        return self.executed(replica)

    def executed(self, replica: Replica) -> inputs.Executed:
        header = replica.chain[-1][1].header
        wrong = replica.wrong_from is not None and header.seq >= replica.wrong_from
        root = sha256(b"state", header.digest, replica.name.encode() if wrong else b"")
        edge = replica.edge
        if edge is not None and edge.next_set.epoch == replica.voters.epoch:
            edge = None
        return inputs.Executed(header.seq, root, edge)

    def restart(self, name: str) -> list[str]:
        replica = self.replicas[name]
        if replica.alive:
            raise StageError(f"{name} is running")
        replica.engine = self.build(name, replica)
        replica.alive = True
        return self.step(name, *([self.executed(replica)] if replica.chain else []))

    # --- messages ----------------------------------------------------------------------------

    def send(self, replica: Replica, to: str, message: ms.Message) -> None:
        letter = Letter(replica.name, to, message)
        self.sent.append(letter)
        target = self.replicas[to]
        if target.alive and not target.cut and not replica.cut:
            self.wire.append(letter)

    def reads_as(self, letter: Letter, text: str) -> bool:
        words = self.words.message(letter.message)
        return words == text or words.startswith((text + " ", text + ":"))

    def find(self, text: str, origin: str, to: str) -> ms.Message:
        """Return the message that reads as `text`: the first under way, else the last ever sent."""
        for letter in self.wire:
            if (letter.origin, letter.to) == (origin, to) and self.reads_as(letter, text):
                self.wire.remove(letter)
                return letter.message
        text, _, signer = text.partition(" signed by ")
        for letter in reversed(self.sent):
            if self.reads_as(letter, text):
                by = self.words.signer(letter.message)
                if by == signer if signer else letter.origin == origin:
                    return letter.message
        raise StageError(f"nobody ever sent '{text}'")

    def deliver(self, text: str, origin: str, to: str) -> list[str]:
        message = self.find(text, origin, to)
        if self.replicas[to].index_of(origin) == STRANGER:
            return [f"does not know {origin}"]
        return self.step(to, inputs.Received(self.replicas[to].index_of(origin), message))

    def settle(self, only: Iterable[str]) -> list[tuple[str, str]]:
        """Deliver what is under way to `only`, and what follows, until nothing is left.

        Returns (replica, outcome) pairs; the single messages would fill pages.
        """
        only = set(only)
        found: list[tuple[str, str]] = []
        while letter := next((letter for letter in self.wire if letter.to in only), None):
            self.wire.remove(letter)
            replica = self.replicas[letter.to]
            before = (replica.voters.epoch, replica.engine.view, replica.engine.core.changing)
            found += self._outcomes(letter, replica)
            core = replica.engine.core
            if (core.voters.epoch, core.view, core.changing) != before and core.view:
                found.append((letter.to, f"is in {self.where(replica)}"))
            if len(found) > 1000:
                raise StageError("the replicas never settle")
        return found

    def _outcomes(self, letter: Letter, replica: Replica) -> list[tuple[str, str]]:
        """Deliver one letter; return what of its effects is worth telling."""
        event = inputs.Received(replica.index_of(letter.origin), letter.message)
        told: list[tuple[str, str]] = []
        queue: list[inputs.Input] = [] if event.peer == STRANGER else [event]
        while queue and replica.alive:
            for effect in replica.engine.step(queue.pop(0)):
                if isinstance(effect, OUTCOMES):
                    told.append((replica.name, self.words.effect(effect, replica.voters)))
                queue += self.perform(replica, effect)
        return told

    def where(self, replica: Replica) -> str:
        core = replica.engine.core
        place = self.words.place(core.voters.epoch, core.view)
        return f"{place} changing" if core.changing else place
