"""One honest validator: an engine, and a driver as careless as a driver may be.

As in `validator_node.consensus_driver`, a turn takes all that waits, persists what it brought about
as one group, then performs it; what it sends leaves at the turn's end. A crash may fall between any
two of these and takes with it what was not synced: the last group, the sends, and (with
`lazy_ledger`) the slots that the turn executed.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from consensus import effects as fx
from consensus import inputs
from consensus.engine import Engine
from consensus.messages import BatchBody, DecidedSlot
from consensus.validators import Voters
from storage.signing_history import needed
from tests.simulation.checks import Breach, marks, require
from tests.simulation.ledger import Ledger
from tests.simulation.owed import Owed
from tests.simulation.projection import project
from tests.simulation.signing import (
    NETWORK,
    Body,
    consensus_key,
    keyed_sign,
    keyed_verify,
)

if TYPE_CHECKING:
    from tests.simulation.network import Network

PERSIST = (fx.PersistVow, fx.PersistFloor, fx.PersistNote, fx.PersistEpoch)
STRANGERS = 1000
"""Peer numbers of members outside the set begin here."""


def moved(journal: list[fx.Persist], floor: int) -> list[fx.Persist]:
    """What of a journal a move carries (`storage.signing_history`)."""
    kept = needed((record for record in journal if isinstance(record, fx.PersistNote)), floor)
    epochs = [record for record in journal if isinstance(record, fx.PersistEpoch)][-1:]
    vows = [record for record in journal if isinstance(record, fx.PersistVow | fx.PersistFloor)]
    return [*epochs, *kept, *vows]


class CrashError(Exception):
    """The process ends here."""


class Replica(Ledger):
    """A member's process. `copy` tells twins apart."""

    honest = True

    def __init__(self, network: Network, member: int, copy: int = 0) -> None:
        super().__init__(network.plan)
        self.network, self.member, self.copy = network, member, copy
        self.name = f"m{member}" + ("'" * copy)
        self.journal: list[fx.Persist] = []
        self.alive = True
        self.paused_until = 0
        self.doom: str | None = None
        self.pending = True
        self.steps = self.turns = 0
        self.frames: dict = {}
        """Delays of this turn's frames."""
        self.durable_marks: tuple | None = None
        self.lost = False
        """Whether the last crash took anything that a step had brought about."""
        self.built()

    # --- starting --------------------------------------------------------------------------------

    def built(self) -> None:
        """Make the engine from what is durable."""
        self.inbox: deque = deque()
        self.timers, self.owed = dict[inputs.Timer, object](), Owed()
        self.turn_due, self.propose_due, self.parked = False, False, list[fx.CheckBatch]()
        self.engine = self.fresh_engine()
        self.voters = self.engine.core.voters

    def fresh_engine(self) -> Engine:
        plan = self.network.plan
        first = Voters(plan.validators(0), NETWORK)
        key = consensus_key(self.member)
        return Engine(
            first,
            first.index_of_key(key),
            key=key,
            sign=keyed_sign(key),
            verify=keyed_verify,
            parameters=plan.parameters,
            genesis_digest=NETWORK,
            executed=self.chain[-1][1] if self.chain else None,
            stable=self.stable,
            edge=self.edge(),
            persisted=list(self.journal),
        )

    def boot(self) -> None:
        self.put(inputs.WorkPending(self.pending))
        if self.chain:
            seq = self.chain[-1][1].header.seq
            self.put(inputs.Executed(seq, self.root_after(seq), self.edge()))
        for member in range(self.network.plan.members):
            if member != self.member:
                self.put(("link", member))

    def restart(self) -> None:
        if self.alive:
            return
        before = self.engine
        self.alive = True
        is_moved = self.honest and self.network.plan.moved and self.network.rng.random() < 0.5
        if is_moved:
            self.journal = moved(self.journal, self.stable.checkpoint.seq if self.stable else 0)
        self.built()
        core = self.engine.core
        if self.durable_marks is not None:
            now = (*marks(self.engine)[:3], 1 << 60)  # the ledger's height may fall
            self.network.checks.stepped(self.durable_marks, now, "restart")
        if not self.lost and not is_moved:
            was, now = project(before, self.chain), project(self.engine, self.chain)
            differ = {k: (was[k], now[k]) for k in was if was[k] != now[k]}
            require(not differ, "replay", f"{self.name}: {differ}")
        if self.network.trace.keep:
            where = f"e{core.voters.epoch} v{core.view} n{core.height}"
            self.network.trace.note(self.network.now, self.name, f"restarts in {where}")
        self.boot()

    # --- what comes in ---------------------------------------------------------------------------

    def put(self, item) -> None:
        if not self.alive:
            return
        self.inbox.append(item)
        if not self.turn_due:
            self.turn_due = True
            network = self.network
            delay = network.rng.randint(0, network.plan.turn_ms) if network.plan.turn_ms else 0
            network.at(max(delay, self.paused_until - network.now), self.turn)

    def receive(self, member: int, message) -> None:
        self.put((member, message))

    def peer_of(self, member: int) -> int:
        index = self.engine.core.voters.index_of_key(consensus_key(member))
        return STRANGERS + member if index is None else index

    # --- one turn --------------------------------------------------------------------------------

    def turn(self) -> None:
        if not self.alive or not self.turn_due:
            return
        self.turn_due = False
        if self.network.now < self.paused_until:
            self.turn_due = True
            self.network.at(self.paused_until - self.network.now, self.turn)
            return
        self.outbox: list = []
        self.turns += 1
        self.lost = False
        todo, self.inbox = self.inbox, deque()
        try:
            self._turn(todo)
        except CrashError:
            self.network.crashed(self)

    def _turn(self, todo: deque) -> None:
        while todo:
            effects: list = []
            while todo:
                effects += self.step(todo.popleft())
            self.persist([effect for effect in effects if isinstance(effect, PERSIST)])
            for effect in effects:
                self.perform(effect, todo)
            self._judge_parked(todo)
        self.flush()
        self.durable_marks = marks(self.engine)
        if self.doom == "while sending":
            self._send(self.network.rng.randint(0, len(self.outbox)))
            self.die()
        self._send(len(self.outbox))
        self._want_to_propose()

    def step(self, item) -> list:
        engine = self.engine
        before = marks(engine)
        if type(item) is tuple:
            tag, value = item
            item = (
                inputs.LinkUp(self.peer_of(value))
                if tag == "link"
                else inputs.Received(self.peer_of(tag), value)
            )
        effects = engine.step(item)
        after = marks(engine)
        self.network.on_step(self, before, after)
        self.steps += 1
        if self.steps % 16 == 0:
            self.network.checks.bounded(engine)
        return effects

    def persist(self, group: list) -> None:
        if not group:
            if self.doom and self.doom != "while sending":
                self.die(lost=True)
            return
        if self.doom == "before persist":
            self.die(lost=True)
        self.journal += group
        checks = self.network.checks
        if self.honest:
            checks.persisted(self, group)
        # Only what the journal holds: the ledger's part is flushed at the end.
        now = marks(self.engine)
        known = self.durable_marks or ((0, 0), 0, 0, 0)
        self.durable_marks = (now[0], now[1], *known[2:])
        if self.doom == "after persist":
            self.die(lost=True)

    def die(self, *, lost: bool = False) -> None:
        self.lost = self.lost or lost
        raise CrashError

    def _send(self, count: int) -> None:
        for to, message in self.outbox[:count]:
            if self.honest:
                self.network.checks.sent(self, message)
            self.transmit(to, message)

    def transmit(self, member: int, message) -> None:
        self.network.send(self, member, message)

    # --- performing effects ----------------------------------------------------------------------

    def perform(self, effect, todo: deque) -> None:
        match effect:
            case fx.Broadcast(message):
                for member in self.listeners():
                    self.outbox.append((member, message))
            case fx.Send(peer, message):
                self.post(peer, message)
            case fx.SendDecided(peer, first, last):
                for batch, certificate in self.chain[first - 1 : last]:
                    self.post(peer, DecidedSlot(batch=batch, certificate=certificate))
            case fx.SendBody(peer, seq, digest):
                batch, certificate = self.chain[seq - 1]
                if certificate.header.digest == digest:
                    self.post(peer, BatchBody(header=certificate.header, batch=batch))
            case fx.CheckBatch():
                self.parked.append(effect)
            case fx.Decide(batch, certificate):
                self._execute(batch, certificate, todo)
            case fx.Stable(certificate):
                self.keep_stable(certificate)
                if self.honest:
                    self.network.checks.made_stable(certificate)
            case fx.SendCheckpoint(peer, epoch):
                if epoch in self.handovers:
                    self.post(peer, self.handovers[epoch])
            case fx.EpochBegan(voters, _):
                self.voters = voters
                self.network.on_epoch(self, voters.epoch)
            case fx.SetTimer(timer, delay_ms):
                self._set_timer(timer, delay_ms)
            case fx.CancelTimer(timer):
                self.timers.pop(timer, None)
                self.owed.cancelled(timer)
            case _:
                self._perform_report(effect)

    def _perform_report(self, effect) -> None:
        match effect:
            case fx.Diverged(seq, _, _):
                raise Breach("divergence", f"{self.name} at slot {seq}")
            case fx.Report(first, second):
                if self.honest:
                    self.network.checks.reported(first, second)
                self.network.evidence += 1
            case fx.Refused(_, reason):
                self.network.refused[reason] += 1

    def listeners(self) -> list[int]:
        plan = self.network.plan
        if plan.tell_observers:
            return [m for m in range(plan.members) if m != self.member]
        people = self.network.checks.members(self.voters.epoch)
        return [m for m in people if m != self.member]

    def post(self, peer: int, message) -> None:
        people = self.network.checks.members(self.voters.epoch)
        member = peer - STRANGERS if peer >= STRANGERS else people[peer]
        self.outbox.append((member, message))

    def _set_timer(self, timer, delay_ms: int) -> None:
        skew = self.network.skew(self.member)
        token = self.timers[timer] = object()
        self.owed.started(timer, self.network.now)
        self.network.at(max(1, int(delay_ms * skew)), self._fire, timer, token)

    def _fire(self, timer, token) -> None:
        if self.alive and self.timers.get(timer) is token and self.timers.pop(timer):
            self.put(inputs.TimerFired(timer))

    # --- executing and judging -------------------------------------------------------------------

    def _execute(self, batch, certificate, todo: deque) -> None:
        if self.honest:
            self.network.checks.executed(self, batch, certificate)
        self.chain.append((batch, certificate))
        seq = certificate.header.seq
        self.network.on_decide(self, seq, certificate)
        took_ms = self.owed.decided(self.network.now)
        todo.append(inputs.Executed(seq, self.root_after(seq), self.edge(), took_ms))

    def _judge_parked(self, todo: deque) -> None:
        parked, self.parked = self.parked, []
        for check in parked:
            root = self.root_after(check.seq - self.network.plan.window)
            if root is None:
                self.parked.append(check)
                continue
            valid = check.batch.state_root == root
            answer = inputs.BatchChecked(check.view, check.seq, check.digest, valid, "root")
            if self.network.plan.check_ms:
                self.network.at(self.network.plan.check_ms, self.put, answer)
            else:
                todo.append(answer)

    def _want_to_propose(self) -> None:
        if self.pending and not self.propose_due and self.engine.open_slot is not None:
            self.propose_due = True
            self.network.at(self.network.rng.randint(1, 5), self.propose, self.engine)

    def propose(self, engine: Engine) -> None:
        if engine is not self.engine:
            return  # of the process before the crash
        self.propose_due = False
        slot = engine.open_slot if self.alive else None
        if slot is None or not self.pending:
            return
        root = self.root_after(slot - self.network.plan.window)
        if root is not None:
            self.put(inputs.Propose(self.new_batch(root)))

    def new_batch(self, root: bytes) -> Body:
        return Body(root, self.network.nonce())
