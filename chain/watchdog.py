"""Says when a connection to the chain is given up, and when the process is. A pure state machine.

It is told the time, the calls and the finalised heads that were seen; it answers what to do. Who
asks does it: the adapter rebuilds connections, the node ends.

Rules:
1. Only a head higher than every one before is progress, on whatever endpoint it was seen. Answers
   alone are not: an endpoint that repeats an old block answers every call.
2. A silent call (past its deadline) costs the connection, which is rebuilt to the same endpoint;
   the next one without progress in between costs the endpoint. So does a refused or broken
   connection at once, and a head that did not move for `stale_s`.
3. After `hopeless_s` without progress, or with more threads hung than `most_hung_threads`, nothing
   more is tried: the process ends with a message and its supervisor starts it afresh. A validator
   that cannot see the chain must not look alive.
4. Times are seconds of any one monotonic clock. Everything readable is a plain number or string
   that is replaced whole, so that it may be read from any thread.

| state | what it means | what comes next |
|---|---|---|
| `rebuilding` | there is no connection, or it has shown no new head yet | `healthy` |
| `healthy` | the newest head is younger than `stale_s` | |
| `stale` | calls are answered, but no new head came for `stale_s` | the next endpoint |
| `half_open` | a call got no answer, for no known reason | rebuilt, then the next endpoint |
| `hung` | a call got no answer and its thread did not come back | as `half_open`, in a new thread |
| `failed` | given up | the process ends |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """Where the connection stands. See the module's table."""

    HEALTHY = "healthy"
    STALE = "stale"
    HALF_OPEN = "half_open"
    HUNG = "hung"
    REBUILDING = "rebuilding"
    FAILED = "failed"


class Ended(StrEnum):
    """How a call (or the making of a connection) ended, as far as the connection is concerned."""

    ANSWERED = "answered"
    """With an answer, be it a refusal."""
    LOST = "lost"
    """Without one: the connection was refused, broke, or is of no use."""
    SILENT = "silent"
    """It was still waiting at its deadline, and could be called off."""
    HUNG = "hung"
    """It was still waiting at its deadline, and its thread did not react any more."""


class Action(StrEnum):
    """What the adapter has to do with its connection."""

    NONE = "none"
    REBUILD = "rebuild"
    FAIL_OVER = "fail_over"
    EXIT = "exit"


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient the watchdog is. Seconds and counts.

    `stale_s` must exceed the chain's longest ordinary distance between two finalised blocks (12 s
    on the live chain, several blocks at once after a stall). `rebuilds` is how often an endpoint
    may be silent in a row before the next one is taken. `hopeless_s` must leave time to try each.
    """

    stale_s: float = 120.0
    hopeless_s: float = 1800.0
    rebuilds: int = 1
    most_hung_threads: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.stale_s < self.hopeless_s:
            raise ValueError(
                f"stale after {self.stale_s} s, hopeless after {self.hopeless_s} s: want the first "
                "above 0 and the second above the first"
            )
        if self.rebuilds < 0 or self.most_hung_threads < 0:
            raise ValueError(
                f"{self.rebuilds} rebuilds, {self.most_hung_threads} hung threads: want 0 or more"
            )


class ChainLostError(Exception):
    """The chain cannot be followed any more; the process must end. The message is for people."""


@dataclass(frozen=True, slots=True)
class _Call:
    what: str
    begun: float


class Watchdog:
    """Judges one chain's connections, one at a time. See the module's rules.

    Attributes:
        health, head, last_reason: the state, the highest head (-1: none yet) and why the last
            connection was given up.
        counts: how often each thing happened since the start; the keys are `COUNTED`.
        hung_threads: threads that never came back, as the adapter last reported them.
    """

    COUNTED = (
        "calls", "answered", "lost", "silent", "hung", "stale", "connected", "refused", "rebuild",
        "fail_over",
    )  # fmt: skip

    def __init__(self, limits: Limits, now: float) -> None:
        self.limits = limits
        self.health = Health.REBUILDING
        self.head = -1
        self.last_reason = ""
        self.hung_threads = 0
        self.counts: dict[str, int] = dict.fromkeys(self.COUNTED, 0)
        self._progress_at = now
        self._judged_at = now
        self._silent_in_a_row = 0
        self._calls: dict[int, _Call] = {}

    def connected(self, now: float) -> None:
        """Note a new connection, which has shown nothing yet but its first head."""
        self._count("connected")
        self._judged_at = now
        if self.health in (Health.HALF_OPEN, Health.HUNG):
            self.health = Health.REBUILDING

    def connect_failed(self, how: Ended, reason: str) -> Action:
        """Note that an endpoint could not be used; unless this says `EXIT`, the next one may be."""
        self._count("refused")
        if self.health is Health.FAILED:
            return Action.NONE
        self.last_reason = reason
        return self._hang(reason) if how is Ended.HUNG else Action.NONE

    def head_seen(self, number: int, now: float) -> None:
        """Note a finalised block; only a higher one than ever counts (rule 1)."""
        if number <= self.head or self.health is Health.FAILED:
            return
        self.head = number
        self._progress_at = self._judged_at = now
        self._silent_in_a_row = 0
        self.health = Health.HEALTHY

    def call_begun(self, what: str, now: float) -> int:
        """Note a call on its way; return its number for `call_ended`."""
        self._count("calls")
        number = self.counts["calls"]
        self._calls[number] = _Call(what, now)
        return number

    def call_ended(self, number: int, how: Ended, now: float) -> Action:
        """Return what the end of a call means for the connection it was made on."""
        call = self._calls.pop(number)
        self._count(how.value)
        if how is Ended.ANSWERED or self.health is Health.FAILED:
            return Action.NONE
        waited = f"{call.what} got no answer in {now - call.begun:.1f} s"
        if how is Ended.LOST:
            return self._given_up(Health.REBUILDING, f"{call.what} lost its connection")
        if how is Ended.SILENT:
            return self._given_up(Health.HALF_OPEN, waited)
        given_up = self._hang(f"{waited} and its thread hangs")
        if given_up is Action.EXIT:
            return given_up
        return self._given_up(Health.HUNG, f"{waited} and its thread hangs")

    def call_forgotten(self, number: int) -> None:
        """Note that nobody waits for the call any more; nothing is known of its end."""
        self._calls.pop(number, None)

    def thread_ended(self) -> None:
        """Note that a thread that had hung came back after all and is gone."""
        self.hung_threads = max(0, self.hung_threads - 1)

    def tick(self, now: float) -> Action:
        """Return what the passing of time alone means; ask every few seconds."""
        if self.health is Health.FAILED:
            return Action.EXIT
        if now - self._progress_at >= self.limits.hopeless_s:
            return self._failed(f"no new finalised block for {now - self._progress_at:.0f} s")
        if now - self._judged_at < self.limits.stale_s:
            return Action.NONE
        self._judged_at = now
        self._count("stale")
        reason = f"no new finalised block for {now - self._progress_at:.1f} s"
        return self._given_up(Health.STALE, reason)

    def age_s(self, now: float) -> float:
        """Return for how many seconds no new head was seen."""
        return max(0.0, now - self._progress_at)

    @property
    def in_flight(self) -> int:
        """How many calls are on their way."""
        return len(self._calls)

    def _hang(self, reason: str) -> Action:
        self.hung_threads += 1
        if self.hung_threads <= self.limits.most_hung_threads:
            return Action.NONE
        return self._failed(
            f"hung threads of the SDK: {self.hung_threads}, more than "
            f"{self.limits.most_hung_threads}; the last: {reason}"
        )

    def _given_up(self, health: Health, reason: str) -> Action:
        self.health = health
        self.last_reason = reason
        silent = health in (Health.HALF_OPEN, Health.HUNG)
        self._silent_in_a_row = self._silent_in_a_row + 1 if silent else 0
        rebuild = silent and self._silent_in_a_row <= self.limits.rebuilds
        if not rebuild:
            self._silent_in_a_row = 0
        action = Action.REBUILD if rebuild else Action.FAIL_OVER
        self._count(action.value)
        return action

    def _failed(self, reason: str) -> Action:
        self.health = Health.FAILED
        self.last_reason = reason
        return Action.EXIT

    def _count(self, what: str) -> None:
        self.counts[what] += 1
