"""The driver: performs the engine's effects in order, on real disks, links and clocks.

Rules:
1. All inputs pass through one bounded queue and are stepped by one task. One *turn* takes
   everything that waits, steps the engine, and performs the effects.
2. Every `Persist` of a turn is on the disk (one write, one fsync) before anything of that turn is
   sent. Until then messages wait in the outbox, and what is executed is in memory only.
3. Everything a turn has for a peer leaves in one frame; votes inside keep their own signatures.
   What a frame brought is taken in one turn.
4. A batch is judged only when the state root it must name is known here; until then it is parked.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

import structlog
import trio

from consensus import effects as fx
from consensus import inputs
from consensus.engine import Engine
from consensus.messages import DecidedSlot, Evidence
from consensus.validators import Voters
from protocol.errors import ProtocolError
from protocol.records.batch import Batch, Certificate
from protocol.records.checkpoint import CheckpointCertificate
from protocol.records.statement import Statement
from validator_node.batch_check import Checker
from validator_node.batching import BATCH_INTERVAL_S, Batching
from validator_node.driver_events import DriverEvents, FromPeer, OwnStatement, Turn
from validator_node.errors import ReplayError
from validator_node.inbound import Inbound
from validator_node.journal_bridge import AnyJournal
from validator_node.latency import Latencies
from validator_node.ledger_answers import LedgerAnswers
from validator_node.outbox import LinkMessage, Outbox
from validator_node.relay import Relay
from validator_node.saving import Saving
from validator_node.statements import StatementPool
from validator_node.store import Store
from validator_node.timers import Timers

QUEUE_LIMIT = 4096
TURN_LIMIT = 512
LOOK = inputs.WorkPending(pending=True)  # whether there is work is looked up at its turn

log = structlog.get_logger(__name__)


class ConsensusDriver:
    """Runs one engine. Make it, append to its `events`, then run `run` in the node's nursery."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        journal: AnyJournal,
        checker: Checker,
        pool: StatementPool,
        outbox: Outbox,
        *,
        batch_interval_s: float = BATCH_INTERVAL_S,
    ) -> None:
        self.engine = engine
        self.refused: Counter[str] = Counter()
        self.no_ops: Counter[str] = Counter()
        self.evidence = 0
        self.latencies = Latencies()
        self._store = store
        self._journal = journal
        self._checker = checker
        self.pool = pool
        self._relay = Relay(pool)
        self._answers = LedgerAnswers(store, outbox)
        self._outbox = outbox
        self._send, self._receive = trio.open_memory_channel[Turn](QUEUE_LIMIT)
        self._timers = Timers()
        self._saving = Saving(store, journal)
        self._parked: list[fx.CheckBatch] = []
        self.events = DriverEvents()
        self._inbound = Inbound(self._send, checker, pool, lambda: engine.core.voters)
        self.batching = Batching(store, pool, interval_s=batch_interval_s)
        self._pending = False

    # --- what comes in -----------------------------------------------------------------------

    async def put(self, peer: int, messages: Iterable[LinkMessage]) -> None:
        """Queue what a validator sent (`inbound`)."""
        await self._inbound.put(peer, messages)

    async def learn(self, message: DecidedSlot | CheckpointCertificate) -> None:
        """Queue something that proves itself, read from somebody's log."""
        await self._send.send(inputs.Learned(message))

    def offer(self, item: Turn) -> bool:
        """Queue an input; return False (and count) if the queue is full."""
        try:
            self._send.send_nowait(item)
        except trio.WouldBlock:
            self.refused["queue_full"] += 1
            return False
        return True

    def tell_work(self) -> None:
        """Have it looked whether something waits to be ordered, now that something new may."""
        self.offer(LOOK)

    async def run(self) -> None:
        """Run turns for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._inbound.run)
            await self._run()

    async def _run(self) -> None:
        epoch = self.engine.core.voters.epoch
        for statement in self._journal.remembered.statements:
            if statement.header.epoch == epoch:
                self.pool.add(statement)
        first: deque[Turn] = deque([LOOK])
        root = self._store.root_after(self._store.height)
        if self._store.height > 0 and root is not None:
            first.append(inputs.Executed(self._store.height, root, self._store.edge()))
        await self._turn(first)
        while True:
            turn = await self._next_inputs()
            await self._turn(turn)

    async def _next_inputs(self) -> deque[Turn]:
        deadlines = [self._timers.next_at]
        deadlines += [at for at in (self.batching.close_at, self._saving.due_at) if at is not None]
        turn: deque[Turn] = deque()
        with trio.move_on_at(min(deadlines)):
            turn.append(await self._receive.receive())
        while len(turn) < TURN_LIMIT:
            try:
                turn.append(self._receive.receive_nowait())
            except trio.WouldBlock:
                break
        return turn

    def _fired(self) -> list[Turn]:
        return [inputs.TimerFired(timer) for timer in self._timers.fired()]

    # --- one turn ----------------------------------------------------------------------------

    async def _turn(self, turn: deque[Turn]) -> None:
        # A turn without inputs is one, too: a batch closes because its time has come. Timers come
        # after the inputs, for what waited here while this node was busy may have restarted them.
        while True:
            while turn:
                for effect in self._step(turn.popleft()):
                    turn.extend(self._perform(effect))
            turn.extend(self._judge_parked())
            turn.extend([] if turn else self._fired())
            turn.extend([] if turn else self._propose())
            if not turn:
                break
        await self._saving.sync_journal()
        if self._saving.save(trio.current_time()):
            self._compact()
        self._say_again()
        self._outbox.flush()

    def _step(self, item: Turn) -> list[fx.Effect]:
        match item:
            case FromPeer(peer, _, message):
                self._inbound.release(peer)
                if not item.is_still_from(self.engine.core.voters):
                    self.refused["epoch_passed"] += 1
                    return []
                if not isinstance(message, Statement):
                    return self.engine.step(inputs.Received(peer, message))
                return self._take_statement(message, peer)
            case OwnStatement(statement):
                self._journal.append_statement(statement)
                self._saving.hurry()
                self._outbox.broadcast(statement)
                return self._take_statement(statement)
            case Statement():
                return self._take_statement(item)
            case inputs.WorkPending():
                self._pending = self.batching.has_work(self.engine.height)
                return self.engine.step(inputs.WorkPending(self._pending))
        return self.engine.step(item)

    def _take_statement(self, item: Statement, peer: int | None = None) -> list[fx.Effect]:
        header, voters = item.header, self.engine.core.voters
        if header.epoch != voters.epoch:  # the pool's: indices and counters belong to one epoch
            self.refused["wrong_epoch"] += 1
            return []
        if header.signer < len(voters) and not self.pool.wants(header.signer, header.counter):
            return []
        try:
            self._checker.check_statement(item)
        except ProtocolError as error:
            self.refused[error.reason] += 1
            if peer is not None:
                self.events.tell_refused(peer, "bad_statement")
            return []
        self.pool.add(item)
        return self._tell_pending()

    def _perform(self, effect: fx.Effect) -> list[Turn]:
        match effect:
            case fx.PersistVow() | fx.PersistFloor() | fx.PersistEpoch() | fx.PersistNote():
                self._saving.append(effect)
            case fx.Broadcast(message):
                self._outbox.broadcast(message)
            case fx.Send(peer, message):
                self._outbox.send(peer, message)
            case fx.SendDecided(peer, first, last):
                self._answers.send_decided(peer, first, last)
            case fx.SendBody(peer, seq, digest):
                self._answers.send_body(peer, seq, digest)
            case fx.CheckBatch():
                self._parked.append(effect)
            case fx.Decide(batch, certificate):
                return self._execute(batch, certificate)
            case fx.EpochBegan(voters, me):
                self._begin_epoch(voters, me)
            case fx.SendCheckpoint(peer, epoch):
                edge = self._store.edge_checkpoint(epoch)
                if edge is not None:
                    self._outbox.send(peer, edge)
            case fx.Stable(certificate):
                self._store.put_stable(certificate)
                self._saving.cover(certificate.checkpoint.seq)
                for on_stable in self.events.stable:
                    on_stable(certificate)
            case fx.Diverged(seq, own, certified):
                self._store.mark_diverged(seq)
                log.critical("state differs from a quorum's", seq=seq, own=own, certified=certified)
                raise ReplayError(
                    f"slot {seq}: own state root {own.hex()[:16]}, a quorum certified "
                    f"{certified.hex()[:16]}; stop, keep the state folder for analysis, and resync"
                )
            case fx.SetTimer(timer, delay_ms):
                self._timers.set(timer, delay_ms)
            case fx.CancelTimer(timer):
                self._timers.cancel(timer)
            case fx.Report(first_vote, second_vote):
                self.evidence += 1
                evidence = Evidence(first=first_vote, second=second_vote)
                self._store.put_evidence(evidence)
                for on_evidence in self.events.evidence:
                    on_evidence(evidence)
                log.error("equivocation", first=repr(first_vote), second=repr(second_vote))
            case fx.Refused(peer, reason):
                self.refused[reason] += 1
                self.events.tell_refused(peer, reason)
        return []

    def _execute(self, batch: Batch, certificate: Certificate) -> list[Turn]:
        header = certificate.header
        outcome = self._store.apply(batch, certificate)
        self.latencies.decided(header.body_root, trio.current_time())
        for action in batch.actions:
            if isinstance(action, Statement):
                self.pool.execute(action.header)
        self.batching.note_executed(header.seq)
        self.no_ops.update(no_op.reason for no_op in outcome.no_ops)
        for on_executed in self.events.executed:
            on_executed(header, outcome)
        root = self._store.root_after(header.seq)
        if root is None:
            raise ReplayError(f"slot {header.seq} was executed and left no state root")
        took_ms = self._timers.decided()
        return [LOOK, inputs.Executed(header.seq, root, self._store.edge(), took_ms)]

    def _compact(self) -> None:
        me = self.engine.core.me
        own = [s for s in self.pool.waiting() if s.header.signer == me]
        if self._journal.compact(self.engine.live_records(), own):
            log.info("journal compacted", height=self.engine.height)

    def _begin_epoch(self, voters: Voters, me: int | None) -> None:
        self._parked.clear()
        self._checker.begin_epoch(voters)
        self.pool.begin_epoch(len(voters))
        self._relay.begin_epoch()
        self._outbox.begin_epoch(len(voters), me)
        for on_epoch in self.events.epoch_began:
            on_epoch(voters, me)

    # --- judging and proposing -------------------------------------------------------------

    def _judge_parked(self) -> list[Turn]:
        parked, self._parked = self._parked, []
        answers: list[Turn] = []
        for check in parked:
            if check.seq <= self._store.height:
                continue  # decided without our word
            root = self._store.root_after(check.seq - self._store.genesis.parameters.window)
            if root is None:
                self._parked.append(check)
                continue
            reason = ""
            try:
                self._checker.check_batch(check.batch, root)
                self._keep_statements(check.batch)
            except ProtocolError as error:
                reason = str(error)
                log.warning("proposal rejected", seq=check.seq, view=check.view, reason=reason)
            answers.append(
                inputs.BatchChecked(check.view, check.seq, check.digest, not reason, reason)
            )
        return answers

    def _keep_statements(self, batch: Batch) -> None:
        """Know what a proposal holds, also should its view end before it is decided."""
        for action in batch.actions:
            if isinstance(action, Statement):
                self.pool.add(action)

    def _propose(self) -> list[Turn]:
        """Return a proposal if this node leads, something waits, and the batch's time has come."""
        now = trio.current_time()
        batch = self.batching.propose(self.engine, now)
        if batch is None:
            return []
        self.latencies.proposed(batch.body_root(), now)
        return [inputs.Propose(batch)]

    def _tell_pending(self) -> list[fx.Effect]:
        changed = self.batching.has_work(self.engine.height) != self._pending
        return self._step(LOOK) if changed else []

    # --- own statements and answers ----------------------------------------------------------

    async def say(self, statement: Statement) -> None:
        """Order an own statement."""
        await self._send.send(OwnStatement(statement))

    def introduce(self, peer: int) -> None:
        """Tell a validator whose link opened where we are and what waits to be ordered."""
        self.offer(inputs.LinkUp(peer))
        for statement in self._relay.first(self.engine.in_flight):
            self._outbox.send(peer, statement)

    def _say_again(self) -> None:
        engine = self.engine
        patience_s = engine.patience_ms / 1000
        now = trio.current_time()
        for statement in self._relay.due(engine.in_flight, engine.core.me, now, patience_s):
            self._outbox.broadcast(statement)
