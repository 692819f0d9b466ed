"""What is known of a running network: samples of its metrics, and what honest users told."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

from tests.attacks.honest import FINAL, Told
from tests.attacks.seen import Fate, Seen
from validator_node.testnet.processes import Figures

MESH_S = 3.0
"""After that long a subscriber is in its node's mesh: heartbeats are a second apart."""
TAIL_S = 3.0
"""Messages published that late in a phase may still be on their way at its end."""
BANNED = re.compile(r"banned (\S+) for \d+ s")


@dataclass
class Sample:
    """What the metrics said at one time."""

    at: float
    rows: dict[int, Figures]
    resident_mb: float

    def most(self, name: str) -> float:
        """Return the highest value of any node, 0 without one."""
        return max((row.get(name, 0.0) for row in self.rows.values()), default=0.0)

    def total(self, name: str) -> float:
        """Return the sum over the nodes."""
        return sum(row.get(name, 0.0) for row in self.rows.values())


@dataclass
class Ears:
    """Honest subscribers of one process."""

    process: trio.Process
    ready: dict[int, float] = field(default_factory=dict)
    heard: dict[str, set[int]] = field(default_factory=dict)
    until: float = float("inf")


class Record:
    """Everything since the network started."""

    def __init__(self, logs: Iterable[Path]) -> None:
        self.samples: list[Sample] = []
        self.fates: dict[str, Fate] = {}
        self.ears: list[Ears] = []
        self.probes: list[tuple[float, bool]] = []
        self.hostile_peers: set[str] = set()
        self.deaths: list[tuple[float, str]] = []
        """(when it was seen, which node ended and its last words)"""
        self._logs = tuple(logs)

    def take(self, told: Told, ears: Ears) -> None:
        """Take what honest users have told."""
        for submission_id, at, size in told.published:
            self.fates[submission_id] = Fate(at, size)
        for submission_id, at, state, reason in told.ended:
            ended = at if state in FINAL else None
            known = self.fates[submission_id]
            self.fates[submission_id] = replace(known, ended_s=ended, state=state, reason=reason)
        ears.ready.update(told.ready)
        for number, submission_id in told.heard:
            ears.heard.setdefault(submission_id, set()).add(number)
        self.probes += told.probes

    def bans(self) -> set[str]:
        """Return the honest peers that some node has banned so far, by its log."""
        found: set[str] = set()
        for log in self._logs:
            if log.exists():
                found.update(BANNED.findall(log.read_text(errors="replace")))
        return found - self.hostile_peers

    def seen(
        self,
        name: str,
        began: float,
        ended: float,
        banned_before: set[str],
        figures: dict[str, float],
    ) -> Seen:
        """Return what was seen between two times."""
        samples = [entry for entry in self.samples if began <= entry.at <= ended]
        first, last = samples[0], samples[-1]
        expected, delivered = self._delivered(began, ended)
        probes = [answered for at, answered in self.probes if began <= at < ended]
        return Seen(
            name=name,
            began_s=first.at,
            ended_s=last.at,
            slots=int(last.most("height") - first.most("height")),
            epochs=int(last.most("epoch") - first.most("epoch")),
            views=int(last.most("view") - first.most("view")),
            resident_mb=max(entry.resident_mb for entry in samples),
            fates=tuple(self.fates[key] for key in self.published(began, ended)),
            expected=expected,
            delivered=delivered,
            asked=len(probes),
            answered=sum(probes),
            bans=tuple(sorted(self.bans() - banned_before)),
            deaths=tuple(text for at, text in self.deaths if began <= at < ended),
            figures=figures,
        )

    def published(self, began: float, ended: float) -> list[str]:
        """Return the submissions that were published between two times."""
        return [key for key, fate in self.fates.items() if began <= fate.published_s < ended]

    def _delivered(self, began: float, ended: float) -> tuple[int, int]:
        """Count the pairs of a subscriber and what it should have heard, and those it has."""
        expected = delivered = 0
        for key, fate in self.fates.items():
            if not began <= fate.published_s < ended - TAIL_S:
                continue
            for ears in self.ears:
                for number, ready in ears.ready.items():
                    if ready + MESH_S <= fate.published_s and fate.published_s < ears.until:
                        expected += 1
                        delivered += number in ears.heard.get(key, ())
        return expected, delivered
