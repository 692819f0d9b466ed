"""Components through worker processes: the same outcomes as in this process, run after run."""

from __future__ import annotations

import pytest
import trio

from challenges.artifacts import component_compiler
from challenges.examples import payload
from runtime.evaluator import Evaluator
from runtime.outcome import Outcome
from runtime.pool import open_pool
from tests.challenges.components import artifact, example, job, needs_builder, record, submission

pytestmark = needs_builder

LIMIT_S = 240
BODIES = [
    *(payload("python_coding", skill, 7) for skill in range(4)),
    *map(submission, ("memory_bomb", "endless_loop", "nested_object", "stolen_answers", "exit")),
    b"",
    b"def solve(numbers):\n    return {1: id(numbers), 2: hash('a'), 3: [*{'x', 'y', 'z'}]}\n",
    b"import random\ndef solve(numbers):\n    return random.random()\n",
]


async def through_workers(workers: int) -> list[Outcome]:
    modules = {record().module_hash: example().module}
    compiler = component_compiler(modules.get)
    found: dict[int, Outcome] = {}
    async with open_pool(workers, module_source=modules.get, compiler=compiler) as pool:

        async def evaluate(number: int, body: bytes) -> None:
            found[number] = await pool.evaluate(job(body, bytes((number,)) * 32))

        async with trio.open_nursery() as nursery:
            for number, body in enumerate(BODIES):
                nursery.start_soon(evaluate, number, body)
    return [found[number] for number in range(len(BODIES))]


@pytest.mark.parametrize("workers", [1, 2])
async def test_workers_find_what_this_process_finds(workers: int) -> None:
    with Evaluator() as evaluator:
        evaluator.load_artifact(artifact())
        jobs = [job(body, bytes((number,)) * 32) for number, body in enumerate(BODIES)]
        here = [evaluator.evaluate(entry) for entry in jobs]
        again = [evaluator.evaluate(entry) for entry in reversed(jobs)]
    assert here == again[::-1]
    with trio.fail_after(LIMIT_S):
        there = await through_workers(workers)
    assert there == here
    assert len({outcome.verdict_hash for outcome in here}) == len(BODIES)
