"""A whole network of engines from one seed: virtual time, lossy links, crashes.

Nothing here knows the protocol's rules; it performs effects as the driver does (persist before
send) and checks after every step what must never be broken.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from dataclasses import dataclass, field

from consensus import effects as fx
from consensus import inputs
from consensus.engine import Engine
from consensus.messages import BatchBody, DecidedSlot
from consensus.validators import Voters
from protocol.codec import sha256
from protocol.records.batch import Batch, Certificate
from protocol.records.genesis import Parameters
from protocol.records.validators import Validator, ValidatorSet

NETWORK = sha256(b"simulated network")


def keyed_sign(key: bytes):
    """A signature stand-in that only this simulator's keys can make: a keyed hash, for speed."""

    def sign(message: bytes) -> bytes:
        return hashlib.blake2b(message, key=key, digest_size=64).digest()

    return sign


def keyed_verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    return keyed_sign(public_key)(message) == signature


def make_voters(weights: list[int]) -> Voters:
    members = tuple(
        Validator(
            hotkey=sha256(b"hotkey", bytes([index])),
            consensus_key=sha256(b"consensus", bytes([index])),
            weight=weight,
        )
        for index, weight in enumerate(weights)
    )
    return Voters(ValidatorSet(epoch=0, members=members), NETWORK)


@dataclass
class Faults:
    """The mix of one run."""

    loss: float = 0.0
    duplicate: float = 0.0
    max_delay_ms: int = 20
    crash_every_ms: int = 0
    crash_for_ms: int = 1500


@dataclass
class Replica:
    index: int
    engine: Engine
    durable: list = field(default_factory=list)
    chain: list[tuple[Batch, Certificate]] = field(default_factory=list)
    stable: object = None
    timers: dict = field(default_factory=dict)
    alive: bool = True
    proposed: int = 0


class Network:
    """n engines, one event queue."""

    def __init__(
        self, seed: int, weights: list[int], faults: Faults, window: int = 4, epoch_every: int = 0
    ) -> None:
        self.random = random.Random(seed)
        self.voters = make_voters(weights)
        self.faults_epoch = epoch_every
        self.stable: dict = {}
        self.edges: dict = {}
        self.epochs = 0
        self.faults = faults
        self.parameters = Parameters(
            window=window, term=24, base_timeout_ms=400, checkpoint_interval=8
        )
        self.now = 0
        self.events: list = []
        self.count = 0
        self.vows: dict = {}
        self.decided: dict[int, bytes] = {}
        self.reports: list[fx.Report] = []
        self.refused: dict[str, int] = {}
        self.delivered = 0
        self.view_changes = 0
        self.replicas = [Replica(i, self.build(i, None, [])) for i in range(len(weights))]
        for replica in self.replicas:
            self.boot(replica)
        if faults.crash_every_ms:
            self.at(faults.crash_every_ms, self.crash)

    def build(
        self, index: int, executed: Certificate | None, durable: list, stable=None, edge=None
    ) -> Engine:
        return Engine(
            self.voters,
            index,
            sign=keyed_sign(self.voters.key(index)),
            verify=keyed_verify,
            parameters=self.parameters,
            genesis_digest=NETWORK,
            executed=executed,
            stable=stable,
            edge=edge,
            persisted=list(durable),
        )

    # --- time --------------------------------------------------------------------------------

    def at(self, delay: int, action, *arguments) -> None:
        self.count += 1
        heapq.heappush(self.events, (self.now + delay, self.count, action, arguments))

    def run(self, until_ms: int, height: int | None = None) -> None:
        while self.events and self.events[0][0] <= until_ms:
            if height is not None and all(len(r.chain) >= height for r in self.replicas):
                return
            self.now, _, action, arguments = heapq.heappop(self.events)
            action(*arguments)

    # --- faults ------------------------------------------------------------------------------

    def crash(self) -> None:
        alive = [replica for replica in self.replicas if replica.alive]
        victim = self.random.choice(alive)
        down = [r.index for r in self.replicas if not r.alive] + [victim.index]
        if self.faults.crash_every_ms:
            self.at(self.faults.crash_every_ms, self.crash)
        heaviest = sorted(self.voters.weights)[-len(down) :]
        if 3 * sum(heaviest) >= self.voters.total:
            return  # weights move between validators with the epochs
        victim.alive = False
        victim.timers.clear()
        self.at(self.random.randint(1, self.faults.crash_for_ms), self.restart, victim)

    def restart(self, replica: Replica) -> None:
        executed = replica.chain[-1][1] if replica.chain else None
        edge = self.edge(replica) if replica.chain else None
        replica.engine = self.build(replica.index, executed, replica.durable, replica.stable, edge)
        replica.alive = True
        if replica.chain:
            again = inputs.Executed(executed.header.seq, self.root(replica), edge)
            self.step(replica, again)
        self.boot(replica)

    def heal(self) -> None:
        self.faults = Faults()

    # --- performing effects ------------------------------------------------------------------

    def boot(self, replica: Replica) -> None:
        self.step(replica, inputs.WorkPending(True))
        for peer in range(len(self.voters)):
            if peer != replica.index:
                self.step(replica, inputs.LinkUp(peer))
                self.at(1, self.link_up, self.replicas[peer] if self.count else None, replica.index)

    def link_up(self, replica: Replica | None, peer: int) -> None:
        if replica is not None and replica.alive:
            self.step(replica, inputs.LinkUp(peer))

    def step(self, replica: Replica, event: inputs.Input) -> None:
        if not replica.alive:
            return
        before = (replica.engine.core.voters.epoch, replica.engine.view)
        for effect in replica.engine.step(event):
            self.perform(replica, effect)
        after = (replica.engine.core.voters.epoch, replica.engine.view)
        assert after >= before, "the view fell"
        if after[0] == before[0] and after > before:
            self.view_changes += 1
        if replica.alive and replica.engine.open_slot is not None:
            self.at(self.random.randint(1, 10), self.propose, replica)

    def propose(self, replica: Replica) -> None:
        slot = replica.engine.open_slot if replica.alive else None
        if slot is not None:
            replica.proposed += 1
            root = sha256(b"batch", bytes([replica.index]), replica.proposed.to_bytes(4, "big"))
            self.step(replica, inputs.Propose(Batch(state_root=root, actions=())))

    def perform(self, replica: Replica, effect: fx.Effect) -> None:
        match effect:
            case fx.PersistVow(phase, epoch, view, seq, message):
                key = (replica.index, phase, epoch, view, seq)
                known = self.vows.setdefault(key, message)
                assert known == message, f"signed twice: {key}"
                replica.durable.append(effect)
            case fx.PersistFloor() | fx.PersistNote() | fx.PersistEpoch():
                replica.durable.append(effect)
            case fx.Broadcast(message):
                for peer in range(len(self.voters)):
                    if peer != replica.index:
                        self.send(replica.index, peer, message)
            case fx.Send(peer, message):
                self.send(replica.index, peer, message)
            case fx.SendDecided(peer, first, last):
                for batch, certificate in replica.chain[first - 1 : last]:
                    message = DecidedSlot(batch=batch, certificate=certificate)
                    self.send(replica.index, peer, message)
            case fx.SendBody(peer, seq, digest):
                batch, certificate = replica.chain[seq - 1]
                if certificate.header.digest == digest:
                    body = BatchBody(header=certificate.header, batch=batch)
                    self.send(replica.index, peer, body)
            case fx.CheckBatch(view, seq, digest, _):
                checked = inputs.BatchChecked(view, seq, digest, valid=True)
                self.at(1, self.step, replica, checked)
            case fx.Decide(batch, certificate):
                self.decide(replica, batch, certificate)
            case fx.Stable(certificate):
                replica.stable = certificate
                checkpoint = certificate.checkpoint
                known = self.stable.setdefault(checkpoint.seq, checkpoint)
                assert known == checkpoint, f"two checkpoints are stable at {checkpoint.seq}"
                if checkpoint.next_set is not None:
                    self.edges[checkpoint.epoch] = certificate
            case fx.SendCheckpoint(peer, epoch):
                self.send(replica.index, peer, self.edges[epoch])
            case fx.EpochBegan():
                self.epochs += 1
            case fx.Diverged():
                raise AssertionError("an honest replica's state diverged")
            case fx.SetTimer(timer, delay):
                token = object()
                replica.timers[timer] = token
                self.at(delay, self.fire, replica, timer, token)
            case fx.CancelTimer(timer):
                replica.timers.pop(timer, None)
            case fx.Report():
                self.reports.append(effect)
            case fx.Refused(_, reason):
                self.refused[reason] = self.refused.get(reason, 0) + 1

    def fire(self, replica: Replica, timer: inputs.Timer, token: object) -> None:
        if replica.timers.get(timer) is token:
            del replica.timers[timer]
            self.step(replica, inputs.TimerFired(timer))

    def send(self, origin: int, peer: int, message) -> None:
        if self.random.random() < self.faults.loss:
            return
        copies = 2 if self.random.random() < self.faults.duplicate else 1
        for _ in range(copies):
            delay = self.random.randint(1, self.faults.max_delay_ms)
            self.at(delay, self.deliver, self.replicas[peer], origin, message)

    def deliver(self, replica: Replica, origin: int, message) -> None:
        self.delivered += 1
        self.step(replica, inputs.Received(origin, message))

    def decide(self, replica: Replica, batch: Batch, certificate: Certificate) -> None:
        header = certificate.header
        assert header.seq == len(replica.chain) + 1, "decided out of order"
        parent = replica.chain[-1][1].header.digest if replica.chain else NETWORK
        assert header.parent == parent, "the chain is broken"
        assert batch.body_root() == header.body_root
        known = self.decided.setdefault(header.seq, header.digest)
        assert known == header.digest, f"two batches decided at slot {header.seq}"
        replica.chain.append((batch, certificate))
        executed = inputs.Executed(header.seq, self.root(replica), self.edge(replica))
        self.step(replica, executed)

    def root(self, replica: Replica) -> bytes:
        """The state root after the replica's chain: here the chain itself."""
        return sha256(b"state", replica.chain[-1][1].header.digest)

    def edge(self, replica: Replica) -> inputs.Edge | None:
        """The end of the epoch as the executed chain fixes it: decided `epoch_every` slots on."""
        header = replica.chain[-1][1].header
        begin = next(

                entry[1].header.seq
                for entry in replica.chain
                if entry[1].header.epoch == header.epoch

        )
        fixed = begin + self.faults_epoch
        if not self.faults_epoch or header.seq < fixed:
            return None
        members = self.voters.validator_set.members
        shift = (header.epoch + 1) % len(members)
        weights = [m.weight for m in members[shift:] + members[:shift]]
        next_set = ValidatorSet(
            epoch=header.epoch + 1,
            members=tuple(
                Validator(hotkey=m.hotkey, consensus_key=m.consensus_key, weight=w)
                for m, w in zip(members, weights, strict=True)
            ),
        )
        return inputs.Edge(fixed + self.parameters.window, next_set)
