"""What the `challenge` commands print: tables of vectors, outcomes and costs, and differences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from challenges.advice import outcome_advice
from challenges.project import Project
from challenges.runner import Costs, VectorResult
from runtime.outcome import Outcome, OutcomeClass
from validator_node.terminal import say, say_table


def vector_table(project: Project, results: Sequence[VectorResult]) -> Table:
    """Return one row a vector."""
    limit = project.spec.policy.fuel
    table = Table("vector", "outcome", title=f"{project.spec.id} version {project.spec.version}")
    for heading in ("score", "fuel", f"of {limit:,}"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for result in results:
        outcome = result.outcome
        mark = Text("differs", "red") if result.differences else Text("matches", "green")
        table.add_row(
            result.vector.name,
            outcome.outcome_class.value,
            f"{outcome.score:,}",
            f"{outcome.fuel_used:,}",
            "billed" if _is_billed(outcome) else f"{outcome.fuel_used / limit:.1%}",
            mark,
        )
    return table


def print_outcome(outcome: Outcome, limit: int) -> None:
    """Print one evaluation; `limit` is the policy's fuel."""
    table = Table(show_header=False)
    rows = {
        "outcome": outcome.outcome_class.value,
        "score": f"{outcome.score:,}",
        "valid": "yes" if outcome.valid else "no",
        "message": outcome.message,
        "metrics": ", ".join(f"{name} {value:,}" for name, value in outcome.metrics.items()),
        "fuel": fuel_words(outcome, limit),
        "host calls": ", ".join(f"{name} {n:,}" for name, n in outcome.host_calls) or "none",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    for number, line in enumerate(outcome.log, start=1):
        table.add_row(f"log {number}", line)
    say_table(table)
    say(f"verdict {outcome.verdict_hash.hex()}")
    advice = outcome_advice(outcome)
    if advice:
        say(advice)


def fuel_words(outcome: Outcome, limit: int) -> str:
    """Return what an evaluation burned, or that it is billed all of it for how it ended."""
    if _is_billed(outcome):
        return (
            f"{outcome.fuel_used:,} billed, the limit: a {outcome.outcome_class.value} costs it all"
        )
    return f"{outcome.fuel_used:,} of {limit:,}"


def _is_billed(outcome: Outcome) -> bool:
    return outcome.outcome_class in {OutcomeClass.TRAP, OutcomeClass.HOST_LIMIT}


def difference_lines(project: Project, wrong: Sequence[VectorResult]) -> list[str]:
    """Return a line a difference; an outcome or a refusal of several vectors is told once."""
    lines: list[str] = []
    first: dict[str, int] = {}
    more: Counter[int] = Counter()
    for result in wrong:
        for line in result.differences:
            cause = re.sub(r"\d+", "#", line.partition("; expected")[0])  # offsets may differ
            if cause in first:
                more[first[cause]] += 1
                continue
            if cause.startswith("found "):  # the other lines name a field, each with its own value
                first[cause] = len(lines)
            lines.append(f"{project.vectors_path}: {result.vector.name}: {line}")
    for at, count in more.items():
        lines[at] += f" The same in {count:,} more vector{'s' if count > 1 else ''}."
    return lines


def print_costs(rows: Mapping[str, Costs], title: str, is_component: bool) -> None:
    """Print what each way to evaluate costs, and what the figures do not say."""
    table = Table("evaluation", title=title)
    for heading in ("median us", "fastest us", "of the first"):
        table.add_column(heading, justify="right")
    base = next(iter(rows.values())).median_us
    for label, cost in rows.items():
        ratio = f"{cost.median_us / base:.2f}x"
        table.add_row(label, f"{cost.median_us:,.1f}", f"{cost.fastest_us:,.1f}", ratio)
    say_table(table)
    say("The worker does one job at a time: its row is a delay, not a rate of two workers.")
    if not is_component:
        say(
            "The first row goes through wasmtime-py's public calls, some 100 us an evaluation that "
            "the sandbox does not pay: below 1.00x says so, and nothing of metering. Compare with "
            "a vector that runs for 10 ms or more."
        )
