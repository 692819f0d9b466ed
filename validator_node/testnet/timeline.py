"""What a manifest's events make of the network, step by step; a pure function of the manifest.

`World` is the state of affairs: who runs, who is paused, what separates whom. The runner changes
one as it performs the steps; the generator and the checks run one through without any process.

Rules:
1. An event with `for` is two steps: its begin and its end. Steps are ordered by time; an end comes
   before a begin of the same time.
2. A validator *counts* when it runs, is not paused, has a right clock, can write and has its
   journal. A quorum can form when the counting validators of one connected side hold more than two
   thirds of the stake. Slow links count as connections.
3. A manifest must begin and end with such a quorum, and with no link cut at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from validator_node.testnet import manifest as m
from validator_node.testnet.manifest import Event, Manifest, ManifestError

Pair = tuple[int, int]
"""Two nodes, the smaller index first."""


@dataclass(frozen=True)
class Condition:
    """What a link between two nodes is like."""

    mode: str = "open"
    """open; hole: connections stay and nothing passes; cut: connections are reset and refused"""
    delay_ms: float = 0.0
    rate: int = 0
    """Bytes a second each way, 0 for no limit."""
    loss: float = 0.0
    """The part of what is sent that must be sent again."""


OPEN = Condition()


@dataclass(frozen=True)
class Step:
    """The begin of an event, or its end."""

    at: float
    place: int
    """The event's place in the manifest."""
    event: Event
    begins: bool = True

    def __str__(self) -> str:
        """Return the step in a few words."""
        event = self.event
        what = event.kind if self.begins else f"{event.kind} ends"
        if isinstance(event, m.Partition):
            return f"{what} {'|'.join(','.join(map(str, group)) for group in event.groups)}"
        if isinstance(event, m.SlowLink):
            return f"{what} {event.node if event.pair is None else event.pair}"
        if isinstance(event, m.ClockSkew) and self.begins:
            return f"{what} of node {event.node} by {event.ms} ms"
        return what if isinstance(event, m.Heal) else f"{what} node {event.node}"


def steps_of(manifest: Manifest) -> list[Step]:
    """Return all steps in order (rule 1)."""
    steps = []
    for place, event in enumerate(manifest.event):
        steps.append(Step(event.at, place, event))
        lasts = getattr(event, "lasts", None)
        if lasts is not None:
            steps.append(Step(event.at + lasts, place, event, begins=False))
    return sorted(steps, key=lambda step: (step.at, step.begins, step.place))


@dataclass
class World:
    """Who runs and who can reach whom."""

    manifest: Manifest
    running: set[int] = field(default_factory=set)
    paused: set[int] = field(default_factory=set)
    full: set[int] = field(default_factory=set)
    skewed: set[int] = field(default_factory=set)
    wiped: set[int] = field(default_factory=set)
    left: set[int] = field(default_factory=set)
    new: set[int] = field(default_factory=set)
    """Nodes that have not run yet."""
    links: dict[int, Event] = field(default_factory=dict)
    """The events on links that are in effect, by their place in the manifest."""

    @classmethod
    def at_start(cls, manifest: Manifest) -> World:
        """Return the world before the first step."""
        new = set(manifest.starts_later)
        return cls(manifest, running=set(range(manifest.nodes)) - new, new=new)

    # --- changing it -------------------------------------------------------------------------

    def apply(self, step: Step) -> None:
        """Take a step; `ManifestError` if it makes no sense in this state."""
        event = step.event
        if isinstance(event, m.Heal):
            self.links.clear()
        elif isinstance(event, m.Partition | m.Disconnect | m.SlowLink):
            if step.begins:
                self.links[step.place] = event
            else:
                self.links.pop(step.place, None)  # healed before
        elif step.begins:
            self._begin(step, event, event.node)
        else:
            self._end(event, event.node)

    def _begin(self, step: Step, event: Event, node: int) -> None:
        if isinstance(event, m.Join):
            self._expect(step, node in self.new, f"node {node} has run already")
            self.new.discard(node)
            self.running.add(node)
            return
        self._expect(step, node not in self.new, f"node {node} has not joined yet")
        self._expect(step, node not in self.left, f"node {node} has left for good")
        self._expect(step, node not in self.paused, f"node {node} is paused")
        self._expect(step, node not in self.full, f"the disk of node {node} is full")
        if isinstance(event, m.Restart | m.Move):
            self.running.add(node)
            if isinstance(event, m.Restart) and event.wipe:
                self.wiped.add(node)
            return
        self._expect(step, node in self.running, f"node {node} is not running")
        if isinstance(event, m.Kill | m.Leave):
            self.running.discard(node)
            if isinstance(event, m.Leave):
                self.left.add(node)
        elif isinstance(event, m.Pause):
            self.paused.add(node)
        elif isinstance(event, m.DiskFull):
            self.full.add(node)
        elif isinstance(event, m.ClockSkew):
            self._set_skew(node, event.ms)

    def _end(self, event: Event, node: int) -> None:
        if isinstance(event, m.Kill) and node not in self.left:
            self.running.add(node)
        elif isinstance(event, m.Pause):
            self.paused.discard(node)
        elif isinstance(event, m.DiskFull):
            self.full.discard(node)
        elif isinstance(event, m.ClockSkew) and node in self.running:
            self._set_skew(node, 0)

    def _set_skew(self, node: int, ms: int) -> None:
        if ms:
            self.skewed.add(node)
        else:
            self.skewed.discard(node)

    @staticmethod
    def _expect(step: Step, holds: bool, otherwise: str) -> None:
        if not holds:
            raise ManifestError(
                f"event[{step.place}] ({step.event.kind}) at {step.at:g} s: {otherwise}"
            )

    # --- looking at it -----------------------------------------------------------------------

    def condition(self, first: int, second: int) -> Condition:
        """Return what the link between two nodes is like: the worst that is in effect."""
        delay_ms, rate, loss, mode = 0.0, 0, 0.0, "open"
        for event in self.links.values():
            if isinstance(event, m.Disconnect) and event.node in {first, second}:
                return Condition("cut")
            if isinstance(event, m.Partition) and _side(event, first) != _side(event, second):
                mode = "hole"
            if isinstance(event, m.SlowLink) and _touches(event, first, second):
                delay_ms = max(delay_ms, event.delay_ms)
                rate = min(filter(None, (rate, event.rate)), default=0)
                loss = max(loss, event.loss)
        return Condition(mode) if mode == "hole" else Condition(mode, delay_ms, rate, loss)

    def conditions(self) -> dict[Pair, Condition]:
        """Return the condition of every link."""
        return {
            (first, second): self.condition(first, second)
            for second in range(self.manifest.nodes)
            for first in range(second)
        }

    def sides(self) -> list[frozenset[int]]:
        """Return the connected parts of the network, whoever runs."""
        todo, sides = set(range(self.manifest.nodes)), []
        while todo:
            side, edge = set(), {min(todo)}
            while edge:
                side |= edge
                todo -= edge
                edge = {n for n in todo if any(self._linked(n, known) for known in edge)}
            sides.append(frozenset(side))
        return sides

    def _linked(self, first: int, second: int) -> bool:
        return self.condition(min(first, second), max(first, second)).mode == "open"

    def is_quorum(self, nodes: frozenset[int]) -> bool:
        """Return whether the stake of these nodes makes a quorum."""
        total = sum(self.manifest.stake(node) for node in range(self.manifest.validators))
        return 3 * sum(self.manifest.stake(node) for node in nodes) > 2 * total

    def counting(self) -> frozenset[int]:
        """Return the nodes that count (rule 2)."""
        idle = self.paused | self.full | self.skewed | self.wiped
        return frozenset(self.running - idle)

    def has_quorum(self) -> bool:
        """Return whether a quorum can form (rule 2)."""
        counting = self.counting()
        return any(self.is_quorum(side & counting) for side in self.sides())


def worlds_of(manifest: Manifest) -> Iterator[tuple[float, World]]:
    """Yield (time, the world from then on), one object that changes; the start first."""
    world = World.at_start(manifest)
    yield 0.0, world
    for step in steps_of(manifest):
        world.apply(step)
        yield step.at, world


def quorum_since(manifest: Manifest) -> float | None:
    """Return since when a quorum can form without a break until the end; None if it cannot."""
    since: float | None = None
    for at, world in worlds_of(manifest):
        if not world.has_quorum():
            since = None
        elif since is None:
            since = at
    return since


def check_timeline(manifest: Manifest) -> None:
    """Raise `ManifestError` for steps that make no sense, and for rule 3."""
    world = World.at_start(manifest)
    if not world.has_quorum():
        raise ManifestError("event: without the validators that join later there is no quorum")
    for step in steps_of(manifest):
        world.apply(step)
    if len(world.sides()) > 1:
        raise ManifestError("event: a partition or disconnect is never healed: add a heal or a for")
    if not world.has_quorum():
        raise ManifestError(
            "event: no quorum can form at the end; then only nodes "
            f"{sorted(world.counting())} count"
        )


def _side(partition: m.Partition, node: int) -> int:
    for number, group in enumerate(partition.groups):
        if node in group:
            return number
    return -1


def _touches(event: m.SlowLink, first: int, second: int) -> bool:
    if event.pair is not None:
        return set(event.pair) == {first, second}
    return event.node in {first, second}
