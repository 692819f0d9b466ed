"""What honest users saw in one phase of a run, and whether that is good enough. Pure.

Rules:
1. An attack is judged against the calm network of the same run: the phase before it and the one
   after it, whichever was the worse, so that a machine that becomes busy meanwhile is no excuse and
   no accusation. Limits are ratios; those in bytes leave room for what any process may gain.
2. What does not happen at all (a submission that is never settled, a message that never arrives, a
   ban of an honest peer) needs no ratio.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

LEAST_SLOTS = 0.5
"""Slots a second under attack, as a part of those of the calm network."""
MOST_DELAY = 4.0
"""Median delay of a submission under attack, in delays of the calm network."""
LEAST_DELAY_S = 1.0
"""A calm network's delay counts as at least so much: one turn of admission."""
LEAST_DELIVERED = 0.99
"""Part of the honest messages that honest subscribers must receive, in parts of those in calm."""
LEAST_ANSWERED = 0.9
"""Part of the honest requests that must be answered; a busy machine is late with some."""
MOST_MEMORY = 1.5
ROOM_MB = 64.0
"""A node may hold `MOST_MEMORY` times what it held in calm, and so much besides."""


@dataclass(frozen=True)
class Fate:
    """What became of one honest submission."""

    published_s: float
    body_bytes: int = 0
    ended_s: float | None = None
    state: str = "unknown"
    """The last state that a node told."""
    reason: str = ""

    @property
    def is_settled(self) -> bool:
        """Whether it has a result."""
        return self.ended_s is not None and self.state != "refused"


@dataclass(frozen=True)
class Seen:
    """One phase; times are seconds of the machine's monotonic clock."""

    name: str
    began_s: float
    ended_s: float
    slots: int = 0
    epochs: int = 0
    views: int = 0
    resident_mb: float = 0.0
    """The most that one node held."""
    fates: tuple[Fate, ...] = ()
    """Of the submissions that were published in this phase."""
    expected: int = 0
    """Pairs of a subscriber and a submission that it should have received."""
    delivered: int = 0
    asked: int = 0
    answered: int = 0
    """Requests of honest peers, and those that were answered."""
    bans: tuple[str, ...] = ()
    """Honest peers that a node has banned in this phase."""
    deaths: tuple[str, ...] = ()
    """Nodes whose process ended although nobody ended it, with their last words."""
    figures: dict[str, float] = field(default_factory=dict)
    """What the attack itself has measured."""

    @property
    def seconds(self) -> float:
        return self.ended_s - self.began_s

    @property
    def slots_per_s(self) -> float:
        return self.slots / max(self.seconds, 0.001)

    @property
    def settled(self) -> int:
        return sum(fate.is_settled for fate in self.fates)

    @property
    def delay_s(self) -> float:
        """Median seconds from publishing to the result; 0 if there was none."""
        delays = [f.ended_s - f.published_s for f in self.fates if f.is_settled and f.ended_s]
        return median(delays) if delays else 0.0

    @property
    def delivered_part(self) -> float:
        return self.delivered / self.expected if self.expected else 1.0

    @property
    def lost(self) -> dict[str, int]:
        """Submissions without a result, by the last that was heard of them."""
        return dict(
            Counter(f"{f.state} {f.reason}".strip() for f in self.fates if not f.is_settled)
        )

    def shown(self) -> dict[str, Any]:
        """Return the figures for a report."""
        row = {key: value for key, value in asdict(self).items() if key != "fates"}
        row |= {"published": len(self.fates), "settled": self.settled, "lost": self.lost}
        row |= {"slots_per_s": round(self.slots_per_s, 2), "delay_s": round(self.delay_s, 3)}
        return row

    def __str__(self) -> str:
        """One line for people."""
        parts = [
            f"{self.slots_per_s:.1f} slots/s",
            f"settled {self.settled} of {len(self.fates)}, median {self.delay_s:.2f} s",
            f"delivered {self.delivered} of {self.expected}",
            f"answered {self.answered} of {self.asked}",
            f"{self.resident_mb:.0f} MB",
        ]
        parts += [f"{name} {value:g}" for name, value in self.figures.items()]
        return "; ".join(parts)


def worse_of(*calm: Seen) -> Seen:
    """Return the calm phase that an attack is measured by (rule 1); the first is the one before it.

    What is delivered is measured by that one: an attack may have lasting effects.
    """
    worse = min(calm, key=lambda seen: seen.slots_per_s)
    return replace(worse, expected=calm[0].expected, delivered=calm[0].delivered)


def faults(
    calm: Seen, under: Seen, *, least_slots: float = LEAST_SLOTS, most_delay: float = MOST_DELAY
) -> list[str]:
    """Return what honest users lost to an attack; empty if it held."""
    found = list(under.deaths)
    if under.slots_per_s < least_slots * calm.slots_per_s:
        found.append(f"{under.slots_per_s:.1f} slots/s, calm {calm.slots_per_s:.1f}")
    if under.settled < len(under.fates):
        found.append(f"settled {under.settled} of {len(under.fates)}: not {under.lost}")
    if not under.fates:
        found.append("nothing honest was published")
    if under.delay_s > most_delay * max(calm.delay_s, LEAST_DELAY_S):
        found.append(f"median delay {under.delay_s:.1f} s, calm {calm.delay_s:.1f} s")
    if under.delivered < LEAST_DELIVERED * calm.delivered_part * under.expected:
        found.append(f"honest subscribers received {under.delivered} of {under.expected}")
    if under.answered < LEAST_ANSWERED * under.asked:
        found.append(f"answered {under.answered} of {under.asked} honest requests")
    if under.bans:
        found.append(f"honest peers banned: {', '.join(under.bans)}")
    if under.resident_mb > MOST_MEMORY * calm.resident_mb + ROOM_MB:
        found.append(f"{under.resident_mb:.0f} MB, calm {calm.resident_mb:.0f} MB")
    return found
