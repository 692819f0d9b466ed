"""A plan: everything that one seed decides before the first event (a swarm's one member).

Each fault is present or absent on its own, with rates of its own, so that most runs lack most
faults: a uniform mix hides what only shows when, say, COMMITs are lost and nothing else is
(Groce et al., "Swarm Testing", ISSTA 2012).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from protocol.records.genesis import Parameters
from protocol.records.validators import Validator, ValidatorSet
from tests.simulation.reference import effective
from tests.simulation.signing import consensus_key, hotkey

HABITS = (
    "equivocate", "double-vote", "withhold", "replay", "spoof", "stale-change", "lying-view",
    "amnesia", "bad-batch", "wrong-root", "flood", "twins", "silent", "forge", "hurry",
)  # fmt: skip
PROOF_HABITS = ("false-proof", "former")
"""Drawn apart from the others, so that what a seed drew before stays."""
KINDS = ("prepare", "commit", "pre-prepare", "view-change", "new-view", "checkpoint", "decided")
EPOCHS = 12
"""Sets drawn for a run; the last one stays."""


@dataclass(frozen=True)
class Plan:
    """The world of one run. Members are numbered; an epoch's set is (member, weight) pairs."""

    seed: int
    sets: tuple[tuple[tuple[int, int], ...], ...]
    members: int
    byzantine: tuple[int, ...] = ()
    habits: tuple[str, ...] = ()
    zeal: float = 0.2
    """How often a Byzantine validator acts on what it sees."""
    hostile_to_the_end: bool = False
    window: int = 4
    term: int = 24
    interval: int = 8
    epoch_slots: int = 0
    timeout_ms: int = 400
    view_limit_ms: int = 8000
    max_delay_ms: int = 20
    loss: float = 0.0
    kind_loss: tuple[tuple[str, float], ...] = ()
    deaf: tuple[int, ...] = ()
    """Members that the kinds of `kind_loss` are lost for; everybody if there is none."""
    duplicate: float = 0.0
    reorder: bool = False
    """Messages of one turn overtake each other; else they share a frame, as on one stream."""
    stray: float = 0.0
    """Share of messages that come very late."""
    partition_ms: int = 0
    crash_ms: int = 0
    crash_for_ms: int = 500
    torn: bool = False
    moved: bool = False
    """Who comes back after a crash has been moved by `signing-history export` and `import`."""
    lazy_ledger: bool = False
    """A crash may lose the executed slots of the last turn."""
    pause_ms: int = 0
    skew: tuple[float, ...] = ()
    check_ms: int = 0
    turn_ms: int = 0
    idle_ms: int = 0
    tell_observers: bool = False
    safety_messages: int = 2000

    @property
    def parameters(self) -> Parameters:
        return Parameters(
            window=self.window,
            term=self.term,
            checkpoint_interval=self.interval,
            base_timeout_ms=self.timeout_ms,
            max_timeout_ms=self.timeout_ms * 8,
            view_limit_ms=self.view_limit_ms,
        )

    def validators(self, epoch: int) -> ValidatorSet:
        chosen = self.sets[min(epoch, len(self.sets) - 1)]
        return ValidatorSet(
            epoch=epoch,
            members=tuple(
                Validator(hotkey=hotkey(m), consensus_key=consensus_key(m), weight=weight)
                for m, weight in chosen
            ),
        )

    @property
    def faults(self) -> list[str]:
        """The names of what is present, for the distribution."""
        named = {
            "loss": self.loss, "kind-loss": self.kind_loss, "duplication": self.duplicate,
            "reordering": self.reorder, "stray": self.stray,
            "partition": self.partition_ms, "crash": self.crash_ms,
            "moved": self.crash_ms and self.moved,
            "torn": self.crash_ms and self.torn, "ledger-loss": self.crash_ms and self.lazy_ledger,
            "pause": self.pause_ms, "skew": self.skew, "epochs": self.epoch_slots,
            "idle": self.idle_ms, "byzantine": self.byzantine,
        }  # fmt: skip
        return [name for name, value in named.items() if value] + list(self.habits)


def draw(seed: int) -> Plan:
    """Return the plan of a seed."""
    rng = random.Random(seed)  # an int: never hashed
    plan = _draw_mixed(rng, seed)
    plan = _contest(rng, plan) if rng.random() < 0.3 else plan
    return _with_proofs(random.Random(f"proofs {seed}"), plan)


def _with_proofs(rng: random.Random, plan: Plan) -> Plan:
    habits = plan.habits
    if plan.byzantine:
        habits += tuple(habit for habit in PROOF_HABITS if rng.random() < 0.3)
    return replace(plan, habits=habits, moved=rng.random() < 0.3)


def _contest(rng: random.Random, plan: Plan) -> Plan:
    """Make slots prepared by few and decided late, so that views inherit rival certificates."""
    liars = ("equivocate", "double-vote", "stale-change", "lying-view", "withhold")
    habits = {*plan.habits, *(h for h in liars if rng.random() < 0.6)} - {"silent"}
    return replace(
        plan,
        habits=tuple(h for h in HABITS if h in habits and plan.byzantine),
        zeal=rng.choice((0.2, 0.6)),
        window=rng.choice((2, 4)),
        timeout_ms=150,
        max_delay_ms=rng.choice((20, 60)),
        kind_loss=(
            ("commit", rng.choice((0.7, 0.9, 0.97))), ("prepare", rng.choice((0.0, 0.3, 0.6))),
            ("view-change", rng.choice((0.0, 0.3))), ("decided", 0.8),
        ),
        deaf=(),
    )  # fmt: skip


def _draw_mixed(rng: random.Random, seed: int) -> Plan:
    n = rng.choice((4, 4, 4, 4, 4, 4, 5, 5, 6, 7, 7, 8, 10))
    members = n if rng.random() < 0.6 else min(10, n + rng.randint(1, 2))
    epoch_slots = rng.choice((0, 0, 0, 2, 5, 9))
    sets = _draw_sets(rng, n, members, epoch_slots > 0)
    byzantine = _draw_byzantine(rng, sets, members)
    habits: tuple[str, ...] = ()
    if byzantine:
        habits = tuple(h for h in HABITS if rng.random() < rng.choice((0.1, 0.25, 0.5)))
    window = rng.choice((1, 2, 2, 4, 4, 8))
    delay = rng.choice((3, 20, 60, 200))
    has = _coin(rng, rng.choice((0.15, 0.35, 0.6)))
    return Plan(
        seed=seed, sets=sets, members=members, byzantine=byzantine, habits=habits,
        zeal=rng.choice((0.05, 0.2, 0.6)), hostile_to_the_end=rng.random() < 0.6,
        window=window, term=rng.choice((3, 8, 24, 256)) + window, interval=rng.choice((1, 3, 8)),
        epoch_slots=epoch_slots, timeout_ms=rng.choice((150, 400)),
        view_limit_ms=rng.choice((500, 3000, 30_000)),
        max_delay_ms=delay, loss=rng.choice((0.02, 0.1, 0.3)) if has() else 0.0,
        kind_loss=_draw_kind_loss(rng) if has() else (),
        deaf=tuple(m for m in range(members) if rng.random() < rng.choice((0.0, 0.3, 0.7))),
        duplicate=0.1 if has() else 0.0, reorder=has(),
        stray=rng.choice((0.01, 0.1)) if has() else 0.0,
        partition_ms=rng.choice((300, 1000, 4000)) if has() else 0,
        crash_ms=rng.choice((150, 500, 2000)) if has() else 0,
        crash_for_ms=rng.choice((10, 300, 1500)), torn=rng.random() < 0.7,
        lazy_ledger=rng.random() < 0.4, pause_ms=rng.choice((200, 1000)) if has() else 0,
        skew=tuple(rng.choice((0.5, 0.8, 1.0, 1.25, 2.0)) for _ in range(members)) if has() else (),
        check_ms=rng.choice((0, 0, 5)), turn_ms=rng.choice((0, 1, 5)),
        idle_ms=rng.choice((300, 2000)) if rng.random() < 0.15 else 0,
        tell_observers=rng.random() < 0.3, safety_messages=rng.choice((1800, 2200)),
    )  # fmt: skip


def _coin(rng: random.Random, chance: float):
    return lambda: rng.random() < chance


def _draw_kind_loss(rng: random.Random) -> tuple[tuple[str, float], ...]:
    chosen = rng.sample(KINDS, rng.choice((1, 1, 2)))
    return tuple((kind, rng.choice((0.5, 0.8, 0.95))) for kind in chosen)


def _draw_sets(rng: random.Random, n: int, members: int, changing: bool):
    """Sets in which neighbours share members, with weights of one of several shapes."""
    shape = rng.choice(("equal", "equal", "small", "steep", "whale"))
    sets = []
    for _ in range(EPOCHS if changing else 1):
        size = rng.randint(4, members) if changing and rng.random() < 0.5 else n
        chosen = sorted(rng.sample(range(members), size))
        if rng.random() < 0.3:
            rng.shuffle(chosen)
        weights = {
            "equal": [1] * size,
            "small": [rng.randint(1, 4) for _ in chosen],
            "steep": [2 ** rng.randint(0, 4) for _ in chosen],
            "whale": [rng.randint(1, 3) for _ in chosen[1:]] + [rng.randint(4, 30)],
        }[shape]
        sets.append(tuple(zip(chosen, weights, strict=True)))
    return tuple(sets)


def is_tolerable(sets, byzantine) -> bool:
    """Whether the Byzantine members hold less than a third of the votes in every set."""
    for members in sets:
        weights = effective(tuple(weight for _, weight in members))
        held = sum(
            w for (member, _), w in zip(members, weights, strict=True) if member in byzantine
        )
        if 3 * held >= sum(weights):
            return False
    return True


def _draw_byzantine(rng: random.Random, sets, members: int) -> tuple[int, ...]:
    if rng.random() < 0.15:
        return ()
    chosen: tuple[int, ...] = ()
    for member in rng.sample(range(members), members):
        if is_tolerable(sets, (*chosen, member)) and (not chosen or rng.random() < 0.8):
            chosen = (*chosen, member)
    return tuple(sorted(chosen))
