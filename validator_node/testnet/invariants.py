"""What must hold of every trial, whatever was done to the network. Pure functions of what was seen.

| invariant | meaning |
|---|---|
| `one_chain` | two nodes never have different batches in one slot, observers included |
| `one_height` | whoever runs at the end has the same height and state |
| `signed_once` | no validator has promised two things for one place, in any journal it has had |
| `nothing_lost` | what a miner published has a result, or a reason to be refused, or is unknown |
| `minority_waits` | a side without a quorum decides nothing while it is cut off |
| `nobody_died` | no process ended that nobody ended |
| `ends_when_told` | a node ends within `processes.STOP_S` of SIGTERM |
| `recovers` | the network goes on, and comes to rest, once it is whole |
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from protocol.errors import ProtocolError
from storage.errors import StorageError
from storage.vow_audit import audit_vows
from validator_node.testnet.timeline import World

SHOWN = 5
"""Examples named in a violation."""


@dataclass(frozen=True)
class Violation:
    """An invariant that did not hold."""

    invariant: str
    text: str
    nodes: tuple[int, ...] = ()
    slots: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Return everything in a line."""
        where = [f"nodes {', '.join(map(str, self.nodes))}"] if self.nodes else []
        where += [f"slots {', '.join(map(str, self.slots))}"] if self.slots else []
        suffix = f" ({'; '.join(where)})" if where else ""
        return f"{self.invariant}: {self.text}{suffix}"


@dataclass(frozen=True)
class ChainCopy:
    """One node's chain: digests by slot (as far as it has them), its height and state root."""

    digests: Mapping[int, bytes]
    height: int
    roots: Mapping[int, bytes] = field(default_factory=dict)
    """State roots after slots, of the slots it has kept them for."""


def check_one_chain(chains: Mapping[int, ChainCopy]) -> list[Violation]:
    """Compare every slot of every two nodes."""
    by_slot: defaultdict[int, dict[bytes, list[int]]] = defaultdict(dict)
    for node, chain in sorted(chains.items()):
        for slot, digest in chain.digests.items():
            by_slot[slot].setdefault(digest, []).append(node)
    split = sorted(slot for slot, found in by_slot.items() if len(found) > 1)
    if not split:
        return []
    sides = by_slot[split[0]]
    text = "; ".join(f"{digest.hex()[:16]} at {nodes}" for digest, nodes in sides.items())
    nodes = tuple(sorted(node for found in sides.values() for node in found))
    return [
        Violation(
            "one_chain",
            f"{len(split)} slots differ, from slot {split[0]}: {text}",
            nodes,
            tuple(split[:SHOWN]),
        )
    ]


def check_one_height(
    chains: Mapping[int, ChainCopy], present: Sequence[int], slack: int
) -> list[Violation]:
    """Compare heights (equal but for `slack` slots decided while the nodes ended) and states."""
    missing = [node for node in present if node not in chains]
    if missing:
        return [Violation("one_height", "no chain was found", tuple(missing))]
    heights = {node: chains[node].height for node in present}
    if not heights:
        return []
    low, high = min(heights.values()), max(heights.values())
    if high - low > slack:
        return [Violation("one_height", f"heights {heights}", tuple(present), (low, high))]
    roots = {node: chains[node].roots.get(low) for node in present}
    if len(set(roots.values()) - {None}) > 1:
        shown = {node: root.hex()[:16] for node, root in roots.items() if root}
        return [Violation("one_height", f"state roots {shown}", tuple(present), (low,))]
    return []


def check_signed_once(journals: Mapping[int, Sequence[Path]]) -> list[Violation]:
    """Audit every journal, former ones of the same node together with the present one."""
    found = []
    for node, folders in sorted(journals.items()):
        try:
            audit = audit_vows(folders)
        except (StorageError, ProtocolError) as error:
            found.append(Violation("signed_once", f"a journal cannot be read: {error}", (node,)))
            continue
        found += [
            Violation("signed_once", str(double), (node,)) for double in audit.doubles[:SHOWN]
        ]
    return found


@dataclass(frozen=True)
class Fate:
    """What became of a submission: a state of `ReceiptReply`, and why it was refused."""

    state: str
    reason: str = ""

    @property
    def is_final(self) -> bool:
        """Whether nothing will change it."""
        return self.state in {"ended", "uncertified"} or (
            self.state == "refused" and bool(self.reason)
        )


def check_nothing_lost(
    published: Mapping[int, Sequence[str] | None], fates: Mapping[str, Fate], *, disturbed: bool
) -> list[Violation]:
    """Look up what each miner published; None for a miner that left no report.

    A submission that no node knows never reached one that still knows it. That may happen only in
    a network that was disturbed, and never to all of a miner's.
    """
    found = []
    for miner, ids in sorted(published.items()):
        if ids is None:
            found.append(Violation("nothing_lost", f"miner {miner} left no report"))
            continue
        states = {entry: fates.get(entry, Fate("unknown")) for entry in ids}
        open_ids = [
            entry for entry, fate in states.items() if not fate.is_final and fate.state != "unknown"
        ]
        unknown = [entry for entry, fate in states.items() if fate.state == "unknown"]
        if open_ids:
            shown = ", ".join(f"{e[:16]} {states[e].state}" for e in open_ids[:SHOWN])
            found.append(
                Violation("nothing_lost", f"miner {miner}: {len(open_ids)} still open: {shown}")
            )
        if unknown and (not disturbed or len(unknown) == len(ids)):
            shown = ", ".join(entry[:16] for entry in unknown[:SHOWN])
            found.append(
                Violation("nothing_lost", f"miner {miner}: {len(unknown)} unknown: {shown}")
            )
    return found


def count_fates(fates: Mapping[str, Fate]) -> dict[str, int]:
    """Return how many submissions came to what."""
    names = {"ended": "finalised", "uncertified": "finalised"}
    counts = Counter(
        f"refused: {fate.reason}" if fate.state == "refused" else names.get(fate.state, fate.state)
        for fate in fates.values()
    )
    return dict(sorted(counts.items()))


class CutWatch:
    """Watches that sides without a quorum decide nothing (invariant `minority_waits`).

    When the links change, what was on its way may still arrive: a side is measured from `grace_s`
    after the change, if all its nodes can be asked then. Otherwise its limit is the height of
    the whole network at the first look after the change, and the `window` of slots that could be
    in agreement then.
    """

    def __init__(self, grace_s: float, window: int) -> None:
        self._grace_s = grace_s
        self._window = window
        self._since = 0.0
        self._cut: list[frozenset[int]] = []
        self._limits: dict[frozenset[int], int] = {}
        self._loose: int | None = None
        self._known: dict[int, int] = {}
        self.watched: list[tuple[tuple[int, ...], int, int]] = []
        """(side, its limit, the height that the others had reached when it was over)"""

    def change(self, now: float, world: World) -> None:
        """Note that the links have changed just now."""
        self.end()
        sides = world.sides()
        self._cut = [side for side in sides if len(sides) > 1 and not world.is_quorum(side)]
        self._since = now
        self._loose = None  # what is known may be a second old: the next look says

    def end(self) -> None:
        """Close the books on the sides watched so far."""
        for side in self._cut:
            others = [height for node, height in self._known.items() if node not in side]
            if side in self._limits and others:
                self.watched.append((tuple(sorted(side)), self._limits[side], max(others)))
        self._cut, self._limits = [], {}

    def look(self, now: float, heights: Mapping[int, int]) -> list[Violation]:
        """Take the heights of the nodes that answered, asked at `now` or after."""
        self._known.update(heights)
        if now < self._since:
            return []  # the links changed while the nodes were asked
        if self._loose is None:
            self._loose = max(self._known.values(), default=0) + self._window
        if now < self._since + self._grace_s:
            return []
        found = []
        for side in self._cut:
            measured = [heights[node] for node in side if node in heights]
            if side not in self._limits:
                is_complete = side <= heights.keys()
                self._limits[side] = max(measured) if is_complete else self._loose
            over = [node for node in sorted(side) if heights.get(node, 0) > self._limits[side]]
            if over:
                slots = tuple(sorted({heights[node] for node in over}))
                found.append(
                    Violation(
                        "minority_waits",
                        f"the side {sorted(side)} had no quorum and went on from slot "
                        f"{self._limits[side]}",
                        tuple(over),
                        slots,
                    )
                )
                self._limits[side] = max(slots)  # told once for each slot
        return found
