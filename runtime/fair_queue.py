"""Who is served next: priorities, then fair shares between challenges, then turns between miners.

Rules:
1. A more urgent class goes first, always. Within a class each challenge gets the same share of
   working *time* (times its weight) by deficit round robin (Shreedhar and Varghese, 1995): on its
   turn it may spend what it has saved, and what its jobs are expected to cost is taken off. A
   challenge of long jobs thus does not starve one of short ones.
2. Within a challenge, miners take turns, one job each; a miner's own jobs keep their order.
3. At most `cap` places work for one challenge at a time. One at its cap saves nothing up. A place
   may take several jobs, all of one challenge, as long as it is that challenge's turn: so no
   challenge waits for what another one's jobs turn out to take.
4. A challenge or miner that has nothing waiting is forgotten, savings included: idle time is not a
   credit. What is kept between jobs is the expected cost, bounded by `MAX_KNOWN_COSTS`.
5. Pure: no clock, no randomness. The same calls in the same order give the same order of service.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

QUANTUM_MS = 5.0
"""Working time that a turn of weight 1 is worth."""
FIRST_COST_MS = 5.0
"""What a job of a challenge is expected to cost before the first was measured."""
MIN_COST_MS, MAX_COST_MS = 0.05, 60_000.0
SMOOTHING = 0.2
"""Part of a new measurement in the expected cost."""
PEAK_SMOOTHING = 0.1
"""How fast a slow job is forgotten: after 60 fast ones, one of 1 s counts as 2 ms."""
MAX_KNOWN_COSTS = 1_024


@dataclass(frozen=True, slots=True)
class Claim:
    """On whose account a job runs."""

    challenge: str = ""
    miner: bytes = b""
    urgency: int = 0
    """Larger is served first."""
    weight: int = 1
    """The challenge's share of working time, 1 or more."""


@dataclass(slots=True)
class _Flow(Generic[T]):
    """What waits of one challenge in one class."""

    miners: OrderedDict[bytes, deque[T]] = field(default_factory=OrderedDict)
    weight: int = 1
    saved_ms: float = 0.0

    def take(self) -> T:
        """Remove the next item of the miner whose turn it is."""
        miner, items = next(iter(self.miners.items()))
        item = items.popleft()
        if items:
            self.miners.move_to_end(miner)
        else:
            del self.miners[miner]
        return item


@dataclass(slots=True)
class _Cost:
    """What jobs of a challenge took lately."""

    mean_ms: float
    peak_ms: float

    def learn(self, cost_ms: float) -> None:
        self.mean_ms += SMOOTHING * (cost_ms - self.mean_ms)
        self.peak_ms = max(cost_ms, self.peak_ms + PEAK_SMOOTHING * (cost_ms - self.peak_ms))


class FairQueue(Generic[T]):
    """Items waiting for a worker, and which of them are being worked on."""

    def __init__(self, cap: int) -> None:
        """Let at most `cap` places work on items of one challenge at a time."""
        if cap < 1:
            raise ValueError(f"a cap of {cap}, it must be 1 or more")
        self._cap = cap
        self._classes: dict[int, OrderedDict[str, _Flow[T]]] = {}
        self._places: dict[str, Counter[Hashable]] = {}
        self._busy_with: dict[Hashable, str] = {}
        self._costs: OrderedDict[str, _Cost] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def waiting(self) -> dict[str, int]:
        """Items waiting, by challenge."""
        found: Counter[str] = Counter()
        for flows in self._classes.values():
            for challenge, flow in flows.items():
                found[challenge] += sum(map(len, flow.miners.values()))
        return dict(found)

    @property
    def running(self) -> dict[str, int]:
        """Places that work, by the challenge they work for."""
        return {challenge: len(places) for challenge, places in self._places.items()}

    def push(self, item: T, claim: Claim) -> None:
        """Queue an item. How many there may be is the caller's to bound."""
        self._items(claim).append(item)
        self._size += 1

    def put_back(self, item: T, claim: Claim, place: Hashable) -> None:
        """Queue an item again, before all others of its class, that `place` took and did not do."""
        self.finish(claim.challenge, place)
        self._items(claim).appendleft(item)
        self._size += 1
        flows = self._classes[claim.urgency]
        flows.move_to_end(claim.challenge, last=False)
        flow = flows[claim.challenge]
        flow.miners.move_to_end(claim.miner, last=False)
        flow.saved_ms += self.cost_ms(claim.challenge)

    def _items(self, claim: Claim) -> deque[T]:
        flows = self._classes.setdefault(claim.urgency, OrderedDict())
        flow = flows.setdefault(claim.challenge, _Flow())
        flow.weight = max(claim.weight, 1)
        return flow.miners.setdefault(claim.miner, deque())

    def pop(self, place: Hashable) -> tuple[T, str] | None:
        """Take the next item for `place`, and its challenge; None when nothing may run there now.

        Whoever takes an item calls `finish` when it is done.
        """
        if not self._size:
            return None
        for urgency in sorted(self._classes, reverse=True):
            flows = self._classes[urgency]
            challenge = self._next(flows, place)
            if challenge is None:
                continue
            flow = flows[challenge]
            if self._busy_with.get(place, challenge) != challenge:
                return None  # its turn, but not here and now
            flow.saved_ms = max(0.0, flow.saved_ms - self.cost_ms(challenge))
            item = flow.take()
            if not flow.miners:
                del flows[challenge]
                if not flows:
                    del self._classes[urgency]
            self._places.setdefault(challenge, Counter())[place] += 1
            self._busy_with[place] = challenge
            self._size -= 1
            return item, challenge
        return None

    def drain(self) -> list[T]:
        """Take everything that waits out of the queue; none of it runs."""
        items = [
            item
            for flows in self._classes.values()
            for flow in flows.values()
            for queue in flow.miners.values()
            for item in queue
        ]
        self._classes.clear()
        self._size = 0
        return items

    def finish(self, challenge: str, place: Hashable, cost_ms: float | None = None) -> None:
        """Say that an item is done; `cost_ms` is its working time, None when that tells nothing."""
        places = self._places[challenge]
        places[place] -= 1
        if not places[place]:
            del places[place], self._busy_with[place]
        if not places:
            del self._places[challenge]
        if cost_ms is None:
            return
        cost_ms = min(max(cost_ms, MIN_COST_MS), MAX_COST_MS)
        known = self._costs.pop(challenge, None) or _Cost(cost_ms, cost_ms)
        known.learn(cost_ms)
        self._costs[challenge] = known
        while len(self._costs) > MAX_KNOWN_COSTS:
            self._costs.popitem(last=False)

    def cost_ms(self, challenge: str) -> float:
        """Return what a job of the challenge is expected to cost."""
        known = self._costs.get(challenge)
        return FIRST_COST_MS if known is None else known.mean_ms

    def peak_ms(self, challenge: str) -> float:
        """Return what a slow job of the challenge cost lately."""
        known = self._costs.get(challenge)
        return FIRST_COST_MS if known is None else known.peak_ms

    def _next(self, flows: OrderedDict[str, _Flow[T]], place: Hashable) -> str | None:
        """Return the challenge whose turn it is and that can pay; None if all are at the cap."""
        ready = [name for name in flows if self._may_run(name, place)]
        if not ready:
            return None
        if len(ready) == 1:
            flows[ready[0]].saved_ms = 0.0  # nobody to be fair to
            return ready[0]
        # whole rounds in which nobody could pay are granted at once
        rounds = min(self._rounds(name, flows[name]) for name in ready)
        if rounds > 1:
            for name in ready:
                flows[name].saved_ms += (rounds - 1) * QUANTUM_MS * flows[name].weight
        while True:
            for name in ready:
                flow = flows[name]
                cost = self.cost_ms(name)
                if flow.saved_ms >= cost:
                    return name
                flow.saved_ms += QUANTUM_MS * flow.weight
                flows.move_to_end(name)

    def _may_run(self, challenge: str, place: Hashable) -> bool:
        places = self._places.get(challenge, ())
        return place in places or len(places) < self._cap

    def _rounds(self, name: str, flow: _Flow[T]) -> int:
        missing = self.cost_ms(name) - flow.saved_ms
        return -int(-missing // (QUANTUM_MS * flow.weight)) if missing > 0 else 0
