"""After the network heals: does everybody decide, and within the views that rule 4 grants?

The bound (docs/consensus.md, section 4): the longest run of faulty primaries in the schedule + 2
views, counted from the first view that all honest members share, with time-outs of at least four
network delays (the simulator's base time-out always is, after healing). A member outside the set
has no view to share; it must follow before the run ends.
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
        self.late = False

    def begin(self) -> None:
        network = self.network
        self.active = True
        self.target = max(replica.engine.core.tip_seq for replica in network.honest)
        self.waiting = {replica.member for replica in network.honest}
        slowest = network.plan.timeout_ms * 8
        self.deadline = network.now + 60 * slowest
        self._look()

    # --- the views -----------------------------------------------------------------------------

    def moved(self, replica: Replica) -> None:
        if not self.active or not self.waiting:
            return
        self._look()
        if self.shared is None:
            return
        epoch, view = replica.engine.core.voters.epoch, replica.engine.view
        if epoch == self.shared[0] and view > self.shared[1] + self.longest_faulty_run(epoch) + 2:
            voters = [r.member for r in self.network.honest if r.engine.core.me is not None]
            late = sorted(self.waiting & set(voters))
            if late:
                raise Breach("liveness", f"view {view}, shared {self.shared}, without {late}")

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

    # --- the slots -----------------------------------------------------------------------------

    def decided(self, replica: Replica, seq: int) -> None:
        if self.active and seq > self.target:
            self.waiting.discard(replica.member)

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
