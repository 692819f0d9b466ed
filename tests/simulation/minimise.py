"""Making a failing run small: fewer faults, fewer members, an earlier end; then its trace.

Each attempt changes the plan in one way and is kept if the same invariant still breaks. The seed
of the event order stays, so an attempt is a neighbour of the run, not the run with less in it.
"""

from __future__ import annotations

from dataclasses import replace

from tests.simulation.network import Network, Outcome
from tests.simulation.plan import Plan, is_tolerable

LAST_LINES = 120


def attempts(plan: Plan):
    """Yield simpler plans."""
    absent = {
        "loss": 0.0, "kind_loss": (), "deaf": (), "duplicate": 0.0, "stray": 0.0, "reorder": False,
        "partition_ms": 0, "crash_ms": 0, "torn": False, "lazy_ledger": False, "pause_ms": 0,
        "skew": (), "check_ms": 0, "turn_ms": 0, "idle_ms": 0, "tell_observers": False,
        "epoch_slots": 0, "hostile_to_the_end": False, "byzantine": (),
    }  # fmt: skip
    for name, value in absent.items():
        if getattr(plan, name) != value:
            yield replace(plan, **{name: value})
    for habit in plan.habits:
        yield replace(plan, habits=tuple(h for h in plan.habits if h != habit))
    for member in plan.byzantine:
        rest = tuple(m for m in plan.byzantine if m != member)
        if is_tolerable(plan.sets, rest):
            yield replace(plan, byzantine=rest)
    if plan.window > 1:
        yield replace(plan, window=plan.window // 2)
    for share in (2, 4):
        yield replace(plan, safety_messages=plan.safety_messages // share)


def minimise(plan: Plan, rule: str, budget: int = 150) -> Plan:
    """Return a plan with as little in it as the failure of `rule` needs."""
    simpler = True
    while simpler and budget > 0:
        simpler = False
        for attempt in attempts(plan):
            budget -= 1
            if budget <= 0:
                break
            if Network(attempt).run().rule == rule:
                plan, simpler = attempt, True
                break
    return plan


def report(plan: Plan, rule: str) -> str:
    """Return the minimised run of a failure, as text."""
    small = minimise(plan, rule)
    outcome: Outcome = Network(small, keep_trace=True).run()
    lines = outcome.trace
    left = len(lines) - LAST_LINES
    head = [f"seed {plan.seed}: {outcome.detail}", f"plan {small}", f"faults {small.faults}"]
    if left > 0:
        head.append(f"... {left} lines before")
    return "\n".join(head + lines[-LAST_LINES:])
