"""A whole network from one plan: virtual time, links, crashes, pauses; then everything heals.

A run has two phases. While faults last, only safety is asked for. After `heal` every honest link
delivers within `HEALED_MS`, nobody crashes, and every honest member must decide in time
(`liveness`). Byzantine members go on or fall silent, as the plan says.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field

from consensus.inputs import WorkPending
from consensus.messages import (
    DecidedSlot,
    NewView,
    PrePrepare,
    ViewChange,
    Vote,
)
from protocol.records.checkpoint import CheckpointVote
from tests.simulation.byzantine import Coalition, Traitor
from tests.simulation.checks import Breach, Checks
from tests.simulation.liveness import Liveness
from tests.simulation.plan import Plan
from tests.simulation.replica import Replica
from tests.simulation.signing import GENESIS_ROOT, state_root
from tests.simulation.trace import Trace, show, show_certificate

HEALED_MS = 20
MAX_SAFETY_MS = 60_000
DOOMS = ("before persist", "after persist", "while sending")
KIND_OF = {
    PrePrepare: "pre-prepare", ViewChange: "view-change", NewView: "new-view",
    CheckpointVote: "checkpoint", DecidedSlot: "decided",
}  # fmt: skip


@dataclass
class Outcome:
    """What one run came to."""

    seed: int
    rule: str = ""
    """The invariant that broke; empty if none did."""
    detail: str = ""
    slots: int = 0
    messages: int = 0
    views: int = 0
    epochs: int = 0
    evidence: int = 0
    faults: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    refused: Counter = field(default_factory=Counter)
    digest: str = ""


class Network:
    """All members, one event queue."""

    def __init__(self, plan: Plan, *, keep_trace: bool = False) -> None:
        self.plan = plan
        self.rng = random.Random(plan.seed * 2 + 1)
        self.trace = Trace(keep_trace)
        self.checks = Checks(plan)
        self.now = self.count = self.delivered = 0
        self.events: list = []
        self.healed = False
        self.groups: dict[int, int] = {}
        self.refused: Counter = Counter()
        self.evidence = 0
        self.views: set[tuple[int, int]] = {(0, 0)}
        self.height = 0
        self.kind_loss = dict(plan.kind_loss)
        self.deaf = frozenset(plan.deaf) or frozenset(range(plan.members))
        self.coalition = Coalition(self)
        self.liveness = Liveness(self)
        self.members: list[list[Replica]] = []
        for member in range(plan.members):
            if member not in plan.byzantine:
                self.members.append([Replica(self, member)])
                continue
            copies = 2 if "twins" in plan.habits else 1
            self.members.append([Traitor(self, member, copy) for copy in range(copies)])
        self.everyone = [replica for copies in self.members for replica in copies]
        self.honest = [replica for replica in self.everyone if replica.honest]

    # --- time ------------------------------------------------------------------------------------

    def at(self, delay: int, action, *arguments) -> None:
        self.count += 1
        heapq.heappush(self.events, (self.now + delay, self.count, action, arguments))

    def run(self) -> Outcome:
        """Run both phases; a breach ends it."""
        outcome = Outcome(self.plan.seed, faults=self.plan.faults)
        try:
            self._start()
            self._until(lambda: self.delivered >= self.plan.safety_messages, MAX_SAFETY_MS)
            self._heal()
            self._until(self.liveness.is_over, self.liveness.deadline)
            self.liveness.conclude()
            for replica in self.honest:
                self.checks.bounded(replica.engine)
        except Breach as breach:
            outcome.rule, outcome.detail = breach.rule, str(breach)
        except Exception as error:
            outcome.rule, outcome.detail = type(error).__name__, repr(error)
        outcome.slots, outcome.messages = self.height, self.delivered
        outcome.views = sum(view > 0 for _, view in self.views)
        outcome.epochs = max(epoch for epoch, _ in self.views)
        outcome.evidence, outcome.refused = self.evidence, self.refused
        if self.trace.keep:
            self.trace.note(self.now, "net", outcome.detail or "all went well")
            outcome.trace, outcome.digest = self.trace.lines, self.trace.digest
        return outcome

    def _until(self, is_over, until_ms: int) -> None:
        while self.events and self.events[0][0] <= until_ms and not is_over():
            self.now, _, action, arguments = heapq.heappop(self.events)
            action(*arguments)

    def nonce(self) -> bytes:
        self.count += 1
        return self.count.to_bytes(8, "big")

    def coalition_root(self, seq: int) -> bytes:
        """The state root that a batch at `seq` must name."""
        digest = self.checks.decided.get(seq - self.plan.window)
        return GENESIS_ROOT if digest is None else state_root(digest)

    # --- faults ----------------------------------------------------------------------------------

    def _start(self) -> None:
        plan = self.plan
        for replica in self.everyone:
            replica.boot()
        every = (
            (plan.crash_ms, self._crash), (plan.pause_ms, self._pause),
            (plan.partition_ms, self._partition), (plan.idle_ms, self._idle),
        )  # fmt: skip
        for period, action in every:
            if period:
                self.at(self.rng.randint(1, period), self._repeat, period, action)
        if plan.byzantine:
            self.at(500, self._repeat, 500, self.coalition.tick)

    def _repeat(self, period: int, action) -> None:
        if self.healed and action != self.coalition.tick:
            return
        self.at(self.rng.randint(period // 2, 2 * period), self._repeat, period, action)
        action()

    def _crash(self) -> None:
        up = [replica for replica in self.honest if replica.alive]
        if up:
            self.rng.choice(up).doom = self.rng.choice(DOOMS)
            victim = self.rng.choice(up)
            if self.rng.random() < 0.3 and not victim.doom:
                self.crashed(victim)

    def crashed(self, replica: Replica) -> None:
        replica.alive, replica.doom = False, None
        if replica.lost and self.plan.lazy_ledger:
            replica.lose_unflushed()
        if self.trace.keep:
            self.trace.note(self.now, replica.name, "crashes" + " torn" * replica.lost)
        if self.healed:
            replica.restart()
        else:
            self.at(self.rng.randint(1, self.plan.crash_for_ms), replica.restart)

    def _pause(self) -> None:
        replica = self.rng.choice(self.honest)
        replica.paused_until = self.now + self.rng.randint(1, self.plan.pause_ms * 2)

    def _partition(self) -> None:
        if self.rng.random() < 0.3:
            self.groups = {}
            return
        groups = self.rng.choice((2, 2, 3))
        self.groups = {m: self.rng.randrange(groups) for m in range(self.plan.members)}

    def _idle(self) -> None:
        pending = self.rng.random() < 0.5
        for replica in self.honest:
            if self.rng.random() < 0.8:
                self._set_pending(replica, pending)

    def _set_pending(self, replica: Replica, pending: bool) -> None:
        replica.pending = pending
        replica.put(WorkPending(pending))

    def skew(self, member: int) -> float:
        return 1.0 if self.healed or not self.plan.skew else self.plan.skew[member]

    def _heal(self) -> None:
        if self.trace.keep:
            self.trace.note(self.now, "net", "heals")
        self.healed = True
        self.groups = {}
        for replica in self.everyone:
            replica.paused_until = 0
            if replica.alive:
                self.at(0, replica.turn)  # the one that waits for the pause's end comes too late
            replica.doom = None
            replica.restart()
            if not replica.pending:
                self._set_pending(replica, True)
            for member in range(self.plan.members):
                if member != replica.member:
                    replica.put(("link", member))
        self.liveness.begin()

    # --- links -----------------------------------------------------------------------------------

    def send(self, origin: Replica, member: int, message) -> None:
        """Put a message on the link from `origin` to `member`."""
        rng, plan = self.rng, self.plan
        for replica in self.members[member]:
            if replica is origin or not self.reach(origin, replica):
                continue
            if self.healed and origin.honest and replica.honest:
                self.at(
                    self._delay(origin, replica, HEALED_MS), self._deliver, replica, origin, message
                )
                continue
            if self.kind_loss and member in self.deaf:
                kind = message.kind if type(message) is Vote else KIND_OF.get(type(message))
                if rng.random() < self.kind_loss.get(kind, 0.0):
                    continue
            if plan.loss and rng.random() < plan.loss:
                continue
            copies = 2 if plan.duplicate and rng.random() < plan.duplicate else 1
            for _ in range(copies):
                delay = self._delay(origin, replica, plan.max_delay_ms)
                if plan.stray and rng.random() < plan.stray:
                    delay *= rng.randint(5, 100)
                self.at(delay, self._deliver, replica, origin, message)

    def _delay(self, origin: Replica, replica: Replica, most: int) -> int:
        if self.plan.reorder and not self.healed:
            return self.rng.randint(1, most)
        frame = (origin.turns, replica.name)
        if frame not in origin.frames:
            origin.frames = {key: ms for key, ms in origin.frames.items() if key[0] == origin.turns}
            origin.frames[frame] = self.rng.randint(1, most)
        return origin.frames[frame]

    def reach(self, origin: Replica, replica: Replica) -> bool:
        if self.groups and self.groups[origin.member] != self.groups[replica.member]:
            return origin.member in self.plan.byzantine or replica.member in self.plan.byzantine
        return self.coalition.joins(origin, replica)

    def _deliver(self, replica: Replica, origin: Replica, message) -> None:
        if not replica.alive:
            return
        self.delivered += 1
        if self.trace.keep:
            self.trace.note(self.now, replica.name, f"< {origin.name} {show(message)}")
        replica.receive(origin.member, message)

    # --- what replicas tell ----------------------------------------------------------------------

    def on_step(self, replica: Replica, before: tuple, after: tuple) -> None:
        if before == after or not replica.honest:
            return
        self.checks.stepped(before, after, replica.name)
        if before[0] != after[0]:
            self.views.add(after[0])
            self.liveness.moved(replica)
            if self.trace.keep:
                core = replica.engine.core
                what = "asks for" if core.changing else "enters"
                self.trace.note(self.now, replica.name, f"{what} e{after[0][0]} v{after[0][1]}")

    def on_decide(self, replica: Replica, seq: int, certificate) -> None:
        if replica.honest:
            self.height = max(self.height, seq)
            self.liveness.decided(replica, seq)
        if self.trace.keep:
            self.trace.note(self.now, replica.name, f"DECIDES {show_certificate(certificate)}")

    def on_epoch(self, replica: Replica, epoch: int) -> None:
        if replica.honest:
            self.liveness.moved(replica)
