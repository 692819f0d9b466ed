"""The same submissions in many processes: `python -m tests.runtime.determinism --submissions 1000`.

For each example a seed makes valid, damaged and random submissions; for `python_coding`, which is
built at first use and so only done when it is named, see `tests.runtime.python_submissions`. Three
processes, which share nothing, evaluate them with one worker and with two, twice each, in another
order every time. Verdicts and fuel must be equal to the byte in all twelve runs; what differs is
named, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

import msgspec
import trio

from challenges import examples
from challenges.artifacts import component_compiler
from challenges.record import challenge_record
from protocol.codec import Record, decode, encode, sha256
from protocol.records.challenge import EvaluationContext, RuntimePolicy
from runtime.component_admission import is_component
from runtime.job import EvaluationJob
from runtime.outcome import Outcome
from runtime.pool import WorkerPool, open_pool
from tests.runtime import python_submissions

PROCESSES = 3
WORKERS = (1, 2)
RUNS = 2
PROCESS_S = 3_600.0
DEADLINE_MS = 120_000
MAX_PLAN_BYTES = 512 * 1024 * 1024
PAYLOADS = 64
"""Different valid payloads that damaged ones are made from."""
CUT_FUEL = 40_000_000
"""Evaluations that are to run out of fuel get less than this; a trivial Python one takes 8 M."""


class Plan(Record):
    """What one process is to do."""

    process: int
    example: str
    jobs: tuple[EvaluationJob, ...]


class Told(Record):
    """What one process found in one run; the entries are in the order of the plan's jobs."""

    process: int
    workers: int
    run: int
    verdicts: tuple[bytes, ...]
    classes: tuple[str, ...]
    fuel: tuple[int, ...]
    valid: int

    def entries(self) -> list[tuple[bytes, str, int]]:
        """Return what must be equal in all runs."""
        return list(zip(self.verdicts, self.classes, self.fuel, strict=True))

    def __str__(self) -> str:
        return f"process {self.process}, {self.workers} worker(s), run {self.run}"


@dataclass(frozen=True)
class Comparison:
    """All runs of one example, and where they differ."""

    example: str
    told: tuple[Told, ...]

    def differences(self) -> list[str]:
        """Return one line for each run that is not like the first one."""
        first = self.told[0]
        lines = []
        for other in self.told[1:]:
            pairs = zip(first.entries(), other.entries(), strict=True)
            places = [at for at, (left, right) in enumerate(pairs) if left != right]
            if places:
                at = places[0]
                lines.append(
                    f"{self.example}: {first} and {other} differ in {len(places)} submissions, "
                    f"first in number {at}: {first.entries()[at]} and {other.entries()[at]}"
                )
        return lines

    def summary(self) -> str:
        """Return what was evaluated, as one line."""
        first = self.told[0]
        classes = ", ".join(f"{name} {n}" for name, n in Counter(first.classes).most_common())
        return (
            f"{self.example}: {len(self.told)} runs of {len(first.verdicts)} submissions, "
            f"{first.valid} valid, {len(set(first.verdicts))} different verdicts, {classes}"
        )


def core_examples() -> tuple[str, ...]:
    """Return the examples whose module lies in the repository."""
    return tuple(
        name for name in examples.names() if (examples.FOLDER / name / "module.wasm").exists()
    )


@cache
def _payloads(name: str) -> tuple[bytes, ...]:
    return tuple(examples.payload(name, at % 4, at // 4) for at in range(PAYLOADS))


def submission(name: str, random: Random, limit: int) -> bytes:
    """Return a submission of at most `limit` bytes: valid, damaged or random."""
    if name == python_submissions.NAME:
        return python_submissions.submission(random, limit)
    good = random.choice(_payloads(name))
    at, end = sorted(random.randrange(len(good) + 1) for _ in range(2))
    match random.randrange(9):
        case 0 | 1 | 2:
            made = good
        case 3:  # one byte
            made = good[:at] + random.randbytes(1) + good[at + 1 :]
        case 4:  # cut, or a hole
            made = good[:at] + random.choice((b"", good[end:]))
        case 5:  # something put in
            made = good[:at] + random.randbytes(random.randint(1, 8)) + good[at:]
        case 6:  # two of them
            made = good[:at] + random.choice(_payloads(name))[at:]
        case 7:  # a good beginning
            made = good[: random.randint(1, 16)] + random.randbytes(random.randrange(len(good)))
        case _:
            made = random.randbytes(random.choice((0, 1, 40, 1_024, limit)))
    return made[:limit]


def limited(policy: RuntimePolicy, random: Random) -> RuntimePolicy:
    """Return the policy, in one case of three with too little fuel, memory or room for the output.

    Where fuel and memory end is where two machines would differ first.
    """
    match random.randrange(16):
        case 0 | 1 | 2:
            most = min(policy.fuel // 4, CUT_FUEL)
            return msgspec.structs.replace(policy, fuel=random.randrange(most))
        case 3:
            return msgspec.structs.replace(policy, max_output_bytes=random.randrange(128))
        case 4:
            pages = random.randint(1, policy.memory_pages)
            return msgspec.structs.replace(policy, memory_pages=pages)
        case _:
            return policy


def make_jobs(name: str, count: int, seed: int) -> tuple[EvaluationJob, ...]:
    """Return `count` jobs of an example; other contexts and miners each time."""
    example = examples.load(name)
    record = challenge_record(example.spec, example.module_hash, example.blobs, example.vectors)
    random = Random(f"{seed} {name}")
    return tuple(
        EvaluationJob(
            job_id=number,
            module_hash=record.module_hash,
            policy=limited(record.policy, random),
            challenge_id=name,
            version=record.version,
            params=record.params,
            miner=random.randbytes(32),
            submission=submission(name, random, record.policy.max_input_bytes),
            context=EvaluationContext(
                epoch=random.randrange(2**32),
                height=random.getrandbits(63),
                time_ms=random.randrange(2**42),
                seed=random.randbytes(32),
            ),
            deadline_ms=DEADLINE_MS,
        )
        for number in range(count)
    )


async def evaluate_all(pool: WorkerPool, jobs: Sequence[EvaluationJob]) -> dict[int, Outcome]:
    """Return the outcomes by job id, the jobs handed over in the order given."""
    found: dict[int, Outcome] = {}

    async def one(job: EvaluationJob) -> None:
        found[job.job_id] = await pool.evaluate(job)

    async with trio.open_nursery() as nursery:
        for job in jobs:
            nursery.start_soon(one, job)
    return found


async def carry_out(plan: Plan) -> list[Told]:
    """Run a plan's jobs with each number of workers, `RUNS` times."""
    example = examples.load(plan.example)
    bodies = {sha256(body): body for body in (example.module, *example.blobs.values())}
    told = []
    compiler = component_compiler(bodies.get) if is_component(example.module) else None
    for workers in WORKERS:
        limit = len(plan.jobs) + 1
        async with open_pool(
            workers, module_source=bodies.get, queue_limit=limit, compiler=compiler
        ) as pool:
            for run in range(RUNS):
                order = list(plan.jobs)
                Random(f"{plan.process} {workers} {run}").shuffle(order)
                outcomes = await evaluate_all(pool, order)
                found = [outcomes[job.job_id] for job in plan.jobs]
                told.append(
                    Told(
                        process=plan.process,
                        workers=workers,
                        run=run,
                        verdicts=tuple(outcome.verdict_hash for outcome in found),
                        classes=tuple(outcome.outcome_class.value for outcome in found),
                        fuel=tuple(outcome.fuel_used for outcome in found),
                        valid=sum(outcome.valid for outcome in found),
                    )
                )
    return told


class Answer(Record):
    """All runs of one process."""

    told: tuple[Told, ...]


def compare(name: str, count: int, seed: int, *, processes: int = PROCESSES) -> Comparison:
    """Evaluate `count` submissions of an example everywhere. Raises `CalledProcessError`."""
    jobs = make_jobs(name, count, seed)
    told: list[Told] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan"
        for process in range(processes):
            path.write_bytes(encode(Plan(process=process, example=name, jobs=jobs)))
            done = subprocess.run(
                [sys.executable, "-m", "tests.runtime.determinism", "--plan", str(path)],
                stdout=subprocess.PIPE,
                check=True,
                timeout=PROCESS_S,
            )
            told += decode(Answer, done.stdout, limit_bytes=MAX_PLAN_BYTES).told
    return Comparison(name, tuple(told))


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.runtime.determinism", description=__doc__
    )
    parser.add_argument("--submissions", type=int, default=1_000, help="for each example")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--example", action="append", help="default: those with a module here")
    parser.add_argument("--plan", type=Path, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.plan is not None:
        plan = decode(Plan, words.plan.read_bytes(), limit_bytes=MAX_PLAN_BYTES)
        sys.stdout.buffer.write(encode(Answer(told=tuple(trio.run(carry_out, plan)))))
        return 0
    differences: list[str] = []
    for name in words.example or core_examples():
        found = compare(name, words.submissions, words.seed)
        differences += found.differences()
        sys.stdout.write(found.summary() + "\n")
        sys.stdout.flush()
    sys.stdout.write("".join(f"{line}\n" for line in differences) or "all runs are equal\n")
    return int(bool(differences))


if __name__ == "__main__":
    sys.exit(main())
