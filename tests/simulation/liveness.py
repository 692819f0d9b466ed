"""After the network heals: does it decide within the views granted, and does everybody follow?

The bound (docs/consensus.md, section 4): from the first view that all honest members share, with
time-outs of at least four network delays (the simulator's base time-out always is, once healed), a
new slot is decided before the views pass the longest run of faulty primaries in the schedule + 2.
From then on whoever lags, observers too, executes a new slot within three base time-outs, plus one
for each 64 slots that it missed (as many come in answer to one STATUS), plus two for each epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from consensus.proposer import proposer_schedule
from tests.simulation.checks import Breach
from tests.simulation.reference import effective

if TYPE_CHECKING:
    from tests.simulation.network import Network
    from tests.simulation.replica import Replica

SLOTS = 3
"""New slots that everybody must execute."""
ENOUGH_SLOTS, ENOUGH_MESSAGES = 30, 3000


class Liveness:
    """Watches the second phase."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.active = False
        self.target = 0
        self.waiting: set[int] = set()
        self.shared: tuple[int, int] | None = None
        self.deadline = 0
        self.has_decided = False

    def begin(self) -> None:
        network = self.network
        self.active = True
        self.target = max(replica.engine.core.tip_seq for replica in network.honest)
        self.waiting = {replica.member for replica in network.honest}
        slowest = network.plan.timeout_ms * 8
        self.deadline = network.now + 60 * slowest
        self._look()

    # --- the views -------------------------------------------------------------------------------

    def moved(self, replica: Replica) -> None:
        if not self.active or self.has_decided:
            return
        self._look()
        if self.shared is None:
            return
        epoch, view = replica.engine.core.voters.epoch, replica.engine.view
        if epoch == self.shared[0] and view > self.shared[1] + self.longest_faulty_run(epoch) + 2:
            raise Breach("liveness", f"nothing new decided in view {view}, shared {self.shared}")

    def _look(self) -> None:
        """Note the first view that all honest members of one epoch are in."""
        honest = self.network.honest
        if len({replica.engine.core.voters.epoch for replica in honest}) > 1:
            self.shared = None
            return
        engines = [r.engine for r in honest if r.engine.core.me is not None]
        if not engines:
            return
        epoch = engines[0].core.voters.epoch
        if self.shared is not None and self.shared[0] == epoch:
            return
        views = {engine.view for engine in engines}
        self.shared = (epoch, views.pop()) if len(views) == 1 else None

    def longest_faulty_run(self, epoch: int) -> int:
        plan = self.network.plan
        people = self.network.checks.members(epoch)
        members = plan.sets[min(epoch, len(plan.sets) - 1)]
        schedule = proposer_schedule(effective(tuple(weight for _, weight in members)))
        longest = run = 0
        for leader in schedule * 2:
            run = run + 1 if people[leader] in plan.byzantine else 0
            longest = max(longest, run)
        return longest

    # --- the slots -------------------------------------------------------------------------------

    def decided(self, replica: Replica, seq: int) -> None:
        if not self.active or seq <= self.target:
            return
        self.waiting.discard(replica.member)
        if not self.has_decided:
            self.has_decided = True
            for late in self.network.honest:
                self.network.at(self._grace(late, seq), self._must_follow, late, self.network.now)

    def _grace(self, replica: Replica, seq: int) -> int:
        plan = self.network.plan
        missing = seq - len(replica.chain)
        epochs = missing // (plan.epoch_slots + plan.window) + 1 if plan.epoch_slots else 0
        return plan.timeout_ms * (3 + missing // 64 + 2 * epochs)

    def _must_follow(self, replica: Replica, since: int) -> None:
        if replica.member in self.waiting:
            behind = f"{len(replica.chain)} of {self.network.height}"
            raise Breach("liveness", f"{replica.name} is at {behind}, decided since {since} ms")

    def is_over(self) -> bool:
        network = self.network
        if self.waiting:
            return False
        enough = network.delivered >= ENOUGH_MESSAGES or network.height >= ENOUGH_SLOTS
        low = min(len(replica.chain) for replica in network.honest)
        return enough and low >= self.target + SLOTS

    def conclude(self) -> None:
        if not self.is_over():
            where = [
                f"{r.name} e{r.engine.core.voters.epoch} v{r.engine.view}"
                f"{'~' * r.engine.core.changing} n{len(r.chain)}"
                for r in self.network.honest
            ]
            raise Breach("liveness", f"slot {self.target + SLOTS} is not there: {', '.join(where)}")
