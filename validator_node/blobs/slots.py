"""Whose turn it is to have a blob fetched: a few owners cannot keep the others waiting. Pure.

A *task* is a blob that is wanted, its *owner* whoever made it wanted: the hotkey that signed the
submission, the challenge that names the module. What is scarce is shared between owners:

Rules:
1. `slots` tasks are in hand at a time, one of an owner. Next is the owner of the best *rank*: with
   the least debt (`accounts`), then whose last turn is the longest ago, then who came first. A
   turn costs its time beyond what its bytes take at `good_bytes_per_s`.
2. A first attempt is short: after `first_s` without a byte it has *stalled*. It is parked, and the
   owner's next attempt waits (`retry_s`, twice as long after each further stall, `most_wait_s` at
   most) and may last twice as long (`most_s` at most). Who stalls thus takes slots ever more
   rarely, and a slow but honest source still gets its time. A delivery forgives the stalls.
3. Whatever is in hand gives way to a waiting owner of better rank, once it has had its time:
   `first_s` if nothing came in it, else `quantum_s`. What has come of it is kept.
4. A task of more than `small_bytes` goes on after its first bytes only if the whole of it fits into
   `large_bytes` with the others in hand; else it is parked until it does. A size that was announced
   and never shown to exist thus takes no memory. Of what is kept of parked tasks those of the worst
   rank are forgotten beyond `kept_bytes`; what is small is fetched anew.
5. What nobody has is not a stall: it is asked for again after `retry_s`, later after many times.

*The bound.* An owner without debt that has a task due begins within
`quantum_s * (1 + F // slots)`, where F is how many other owners have no debt either and come before
it. Whoever brings nothing leaves that number with its first turn and is back no sooner than after
`HALF_LIFE_S`: H such owners delay another one by `first_s * (1 + H // slots)` at most, once in that
time, and otherwise by `first_s`.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from validator_node.blobs.accounts import Account, Accounts, Rank, SlotLimits

WASTED_S = 1.0
"""An attempt that ends by itself without a byte has stalled if it took longer."""
PATIENT_TRIES = 8


@dataclass(slots=True)
class _Task:
    """A blob that is wanted."""

    owner: Hashable
    size: int
    """The most it may have."""
    is_urgent: bool
    not_before: float
    tries: int = 0
    received: int = 0
    """Bytes that there are of it."""
    begun: float | None = None
    """When its attempt began, if it is in hand."""
    came: int = 0
    """Bytes that came in this attempt."""
    last_s: float = 0.0
    """When the last of them came, or when the attempt began."""
    patience_s: float = 0.0
    is_large: bool = False
    """In hand, and accounted for in `large_bytes` (rule 4)."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done now."""

    stop: list[Hashable]
    """These are parked: end their attempts, keep what came."""
    forget: list[Hashable]
    """Drop what is kept of these."""
    begin: list[tuple[Hashable, float]]
    """Begin these, with the seconds after which they count as stalled."""


class FairSlots:
    """The state of the turns. Times are of one monotonic clock, in seconds."""

    def __init__(self, limits: SlotLimits) -> None:
        self.limits = limits
        self._tasks: dict[Hashable, _Task] = {}
        self._accounts = Accounts()
        self._in_hand: dict[Hashable, _Task] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._tasks

    @property
    def in_hand(self) -> int:
        """How many tasks have a slot."""
        return len(self._in_hand)

    @property
    def large_bytes(self) -> int:
        """Bytes set aside for the long blobs in hand (rule 4)."""
        return sum(task.size for task in self._in_hand.values() if task.is_large)

    @property
    def kept_bytes(self) -> int:
        """Bytes that are kept of parked tasks."""
        return sum(task.received for task in self._tasks.values() if task.begun is None)

    def debt_steps(self, owner: Hashable, now: float) -> int:
        """Return an owner's debt in steps of `STEP_S`; 0 for one that is not known."""
        account = self._accounts.find(owner)
        return 0 if account is None else self._rank(account, now)[0]

    # --- what happens ------------------------------------------------------------------------

    def add(
        self, key: Hashable, owner: Hashable, size: int, now: float, *, urgent: bool = False
    ) -> None:
        """Want a blob of at most `size` bytes; an owner's urgent ones go before its others."""
        account = self._accounts.open(owner, now)
        if key not in self._tasks:
            self._tasks[key] = _Task(owner, size, urgent, now)
            account.tasks[key] = None
        if urgent:
            self._tasks[key].is_urgent = True

    def kept(self, key: Hashable) -> int:
        """Return how many bytes of a task are to be kept, or go on to come."""
        task = self._tasks.get(key)
        return 0 if task is None else task.received

    def remove(self, key: Hashable, now: float) -> None:
        """Want a blob no longer; its attempt, if there is one, is to be ended."""
        task = self._tasks.get(key)
        if task is not None:
            self._release(key, task, now)
            del self._tasks[key]
            del self._accounts[task.owner].tasks[key]

    def on_bytes(self, key: Hashable, received: int, size: int, now: float) -> bool:
        """Note how many of `size` bytes there are of a task in hand; False if it is parked."""
        task = self._in_hand.get(key)
        if task is None:
            return False
        task.size = size
        if received < task.received:  # all that had come was wrong, and worth nothing
            account = self._accounts[task.owner]
            account.charge(task.received / self.limits.good_bytes_per_s, now)
            task.came = 0
        else:
            task.came += received - task.received
        task.received, task.last_s = received, now
        if task.is_large or not self._is_long(task) or received >= task.size:
            return True
        rank = self._rank(self._accounts[task.owner], now)
        if self._fits(task) and not self._is_held_back(rank, now):
            task.is_large = True
            return True
        self._park(key, task, now)
        return False

    def on_delivered(self, key: Hashable, now: float) -> None:
        """Note that a task brought its blob: it is done."""
        task = self._tasks.get(key)
        if task is not None:
            account = self._accounts[task.owner]
            account.stalls, account.not_before = 0, now
            self.remove(key, now)

    def on_ended(self, key: Hashable, now: float) -> None:
        """Note that an attempt ended by itself, without the blob."""
        task = self._in_hand.get(key)
        if task is None or task.begun is None:
            return
        if not task.came and now - task.begun > WASTED_S:
            self._stall(key, task, now)
            return
        self._park(key, task, now)
        task.tries += 1
        wait_s = self.limits.retry_s * (1 + task.tries // PATIENT_TRIES)
        task.not_before = now + min(wait_s, self.limits.most_wait_s)

    # --- what is to be done ------------------------------------------------------------------

    def decide(self, now: float) -> Decision:
        """Return what to do now; the state is as if it were done already."""
        done = Decision([], [], [])
        for key, task in list(self._in_hand.items()):
            if now - task.last_s >= task.patience_s:
                self._stall(key, task, now)
                done.stop.append(key)
        ranked = [(self._rank(account, now), account) for account in self._accounts.due(now)]
        for rank, account in sorted(ranked, key=lambda entry: entry[0]):
            key = self._next_of(account, now)
            if key is None or not self._give_way(rank, now, done):
                continue
            task = self._tasks[key]
            if self._is_long(task) and task.received:
                if not self._make_room(task, rank, now, done):
                    continue
                task.is_large = True
            self._begin(key, task, account, now)
            done.begin.append((key, task.patience_s))
        self._forget(now, done)
        return done

    def _begin(self, key: Hashable, task: _Task, account: Account, now: float) -> None:
        task.begun = task.last_s = account.last_begun = now
        task.came = 0
        task.patience_s = account.patience_s(self.limits)
        account.active = key
        self._in_hand[key] = task

    def _give_way(self, rank: Rank, now: float, done: Decision) -> bool:
        """Find a slot for an owner of this rank (rule 3)."""
        if len(self._in_hand) >= self.limits.slots:
            worse = self._worse(rank, now)
            if not worse:
                return False
            self._stop(*worse[0], now, done)
        return True

    def _make_room(self, task: _Task, rank: Rank, now: float, done: Decision) -> bool:
        """Find the bytes for a task of which there is a beginning (rule 4)."""
        lacking = self.large_bytes + task.size - self.limits.large_bytes
        worse = [(key, other) for key, other in self._worse(rank, now) if other.is_large]
        if sum(other.size for _, other in worse) < lacking:
            return False
        for key, other in worse:
            if lacking > 0:
                lacking -= other.size
                self._stop(key, other, now, done)
        return True

    def _forget(self, now: float, done: Decision) -> None:
        """Forget what is kept of too many parked tasks."""
        over = self.kept_bytes - self.limits.kept_bytes
        if over <= 0:
            return
        parked = [
            (self._rank(self._accounts[task.owner], now), key, task)
            for key, task in self._tasks.items()
            if task.received and task.begun is None
        ]
        for _, key, task in sorted(parked, key=lambda entry: entry[0], reverse=True):
            if over > 0:
                over -= task.received
                task.received = 0
                done.forget.append(key)

    def _worse(self, rank: Rank, now: float) -> list[tuple[Hashable, _Task]]:
        """Return what is in hand, has had its time and gives way to this rank, the worst first."""
        found = [
            (self._rank(self._accounts[task.owner], now), key, task)
            for key, task in self._in_hand.items()
            if self._had_its_time(task, now)
        ]
        ordered = sorted(found, key=lambda entry: entry[0], reverse=True)
        return [(key, task) for other, key, task in ordered if other > rank]

    def _had_its_time(self, task: _Task, now: float) -> bool:
        least_s = self.limits.quantum_s if task.came else self.limits.first_s
        return task.begun is not None and now - task.begun >= least_s

    def _stop(self, key: Hashable, task: _Task, now: float, done: Decision) -> None:
        if task.came:
            self._park(key, task, now)
        else:
            self._stall(key, task, now)
        done.stop.append(key)

    def _stall(self, key: Hashable, task: _Task, now: float) -> None:
        self._park(key, task, now)
        self._accounts[task.owner].stall(self.limits, now)

    def _park(self, key: Hashable, task: _Task, now: float) -> None:
        """Take a task out of its slot; the owner's others come before it."""
        self._release(key, task, now)
        task.not_before = now
        if not self._is_long(task):
            task.received = 0
        self._accounts[task.owner].tasks.move_to_end(key)

    def _release(self, key: Hashable, task: _Task, now: float) -> None:
        if self._in_hand.pop(key, None) is not None:
            account = self._accounts[task.owner]
            account.charge(self._cost(task, now), now)
            account.active, task.begun, task.is_large = None, None, False

    # --- figures -----------------------------------------------------------------------------

    def _cost(self, task: _Task, now: float) -> float:
        if task.begun is None:
            return 0.0
        return max(0.0, now - task.begun - task.came / self.limits.good_bytes_per_s)

    def _rank(self, account: Account, now: float) -> Rank:
        running = 0.0 if account.active is None else self._cost(self._tasks[account.active], now)
        return account.rank(running, now)

    def _next_of(self, account: Account, now: float) -> Hashable | None:
        due = [key for key in account.tasks if self._tasks[key].not_before <= now]
        return next((key for key in due if self._tasks[key].is_urgent), due[0] if due else None)

    def _is_long(self, task: _Task) -> bool:
        return task.size > self.limits.small_bytes

    def _fits(self, task: _Task) -> bool:
        return self.large_bytes + task.size <= self.limits.large_bytes

    def _is_held_back(self, rank: Rank, now: float) -> bool:
        """Whether an owner of better rank waits for bytes (rule 4)."""
        for account in self._accounts.due(now):
            key = self._next_of(account, now)
            if key is not None and self._tasks[key].received and self._rank(account, now) < rank:
                return True
        return False
