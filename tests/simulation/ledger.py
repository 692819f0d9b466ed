"""What a member has executed: the chain, its state roots, where its epoch ends."""

from __future__ import annotations

from consensus import inputs
from tests.simulation.plan import Plan
from tests.simulation.signing import GENESIS_ROOT, state_root


class Ledger:
    """Decided slots on disk. What was executed since the last `flush` may be lost."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.chain: list = []
        self.flushed = 0
        self.stable = self.flushed_stable = None
        self.handovers: dict[int, object] = {}

    def flush(self) -> None:
        self.flushed, self.flushed_stable = len(self.chain), self.stable

    def lose_unflushed(self) -> None:
        del self.chain[self.flushed :]
        self.stable = self.flushed_stable

    def keep_stable(self, certificate) -> None:
        self.stable = certificate
        if certificate.checkpoint.next_set is not None:
            self.handovers[certificate.checkpoint.epoch] = certificate

    def root_after(self, seq: int) -> bytes | None:
        if seq <= 0:
            return GENESIS_ROOT
        return state_root(self.chain[seq - 1][1].header.digest) if seq <= len(self.chain) else None

    def edge(self) -> inputs.Edge | None:
        """The end of the tip's epoch, once the executed chain has fixed it (rule 12)."""
        plan = self.plan
        if not self.chain or not plan.epoch_slots:
            return None
        length = plan.epoch_slots + plan.window
        header = self.chain[-1][1].header
        epoch = header.epoch
        fixed = epoch * length + plan.epoch_slots
        if header.seq < fixed:
            return None
        return inputs.Edge(fixed + plan.window, plan.validators(epoch + 1))
