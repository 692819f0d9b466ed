"""What an operator may set about the connection, and what it shows of itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from chain.watchdog import Health, Limits


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each kind of call may take, in seconds.

    `connect_s` covers the SDK's import (1-3 s), the metadata's download and the first answers.
    `write_s` covers signing, inclusion and finality (about 30 s on the live chain). `grace_s` is
    how long a call that was called off may take to say so before its thread counts as hung.
    """

    connect_s: float = 30.0
    read_s: float = 20.0
    write_s: float = 120.0
    grace_s: float = 3.0

    def __post_init__(self) -> None:
        if min(self.connect_s, self.read_s, self.write_s, self.grace_s) <= 0:
            raise ValueError(f"{self}: every deadline must be above 0 s")


@dataclass(frozen=True, slots=True)
class Settings:
    """How patient the adapter is; the defaults suit the live chain with its 12 s blocks.

    The head is read every `poll_s`, which drives the watchdog. An endpoint that failed rests for
    `first_pause_s`, doubling up to `longest_pause_s`. A better endpoint that comes back must have
    a head at most `return_lag_blocks` behind the newest one that was seen.
    """

    deadlines: Deadlines = field(default_factory=Deadlines)
    limits: Limits = field(default_factory=Limits)
    poll_s: float = 6.0
    first_pause_s: float = 1.0
    longest_pause_s: float = 60.0
    return_lag_blocks: int = 3

    def __post_init__(self) -> None:
        if not (0 < self.poll_s < self.limits.stale_s):
            raise ValueError(
                f"poll every {self.poll_s} s, stale after {self.limits.stale_s} s: want the first "
                "above 0 and below the second"
            )
        if not 0 < self.first_pause_s <= self.longest_pause_s or self.return_lag_blocks < 0:
            raise ValueError(
                f"pauses {self.first_pause_s} to {self.longest_pause_s} s, return lag "
                f"{self.return_lag_blocks} blocks: want growing pauses above 0, no lag below 0"
            )


@dataclass(frozen=True, slots=True)
class ChainStatus:
    """What metrics and the status page show; plain values, taken at one moment.

    `endpoint` is the one connected to, without user and path; "" for none. `head` is the newest
    finalised block seen (-1: none yet), seen `head_age_s` ago. `threads` counts the SDK's threads
    that have not ended, `hung_threads` those of them that do not react. `counts` are totals since
    the start.
    """

    health: Health
    endpoint: str
    head: int
    head_age_s: float
    threads: int
    hung_threads: int
    in_flight: int
    last_reason: str
    counts: dict[str, int]
