"""The evaluation benchmark compares equal work; its figures are made by hand, not here."""

from __future__ import annotations

import msgpack
import pytest

from runtime.pool import open_pool
from tests.benchmarks.evaluation import LINE, target
from tests.benchmarks.evaluation_pools import by_cpu, keep_busy, lasting, source
from tests.benchmarks.evaluation_subjects import (
    SUBMISSION,
    Subject,
    checksum,
    components,
    subjects,
)
from tests.benchmarks.evaluation_ways import (
    V8,
    InProcess,
    Public,
    Raw,
    timed_in_line,
    timed_in_pool,
)
from tests.challenges.components import needs_builder


@pytest.mark.parametrize("subject", list(subjects()), ids=lambda subject: subject.name)
def test_every_way_gives_the_same_output(subject: Subject) -> None:
    sandboxed = InProcess(subject)
    answers = {sandboxed.answer(), Public(subject).answer(), Raw(subject).answer()}
    sandboxed.close()
    if not V8.missing:
        with V8(subject) as other:
            answers.add(other.answer())
            assert min(other.measure(0.01)) > 0
    assert len(answers) == 1
    assert answers != {b""}


def test_the_checksum_depends_on_all_of_the_work() -> None:
    ways = [InProcess(checksum(rounds)) for rounds in (1, 2, 3)]
    assert len({way.answer() for way in ways}) == 3
    for way in ways:
        way.close()
    assert len(SUBMISSION) == 1024


@pytest.mark.trio
async def test_a_pool_is_kept_busy_and_measured() -> None:
    subject = lasting(0)
    async with open_pool(1, module_source=source(subject)) as pool:
        assert len(await timed_in_pool(0.0, pool, subject)) == 1
        assert min(await timed_in_line(0.0, pool, subject)) > 0
        load = await keep_busy(pool, subject, 1, 0.2)
        assert load.per_s * 0.2 <= sum(pool.evaluated.values())
        assert load.per_s > 1
        assert load.node_us + load.worker_us > 0


def test_what_two_workers_could_be() -> None:
    assert by_cpu(node_us=0, worker_us=100) == 2.0
    assert by_cpu(node_us=100, worker_us=100) == 1.0
    assert 1.0 < by_cpu(node_us=50, worker_us=100) < 2.0


@needs_builder
def test_the_python_example_is_measured_trivial_and_solved() -> None:
    trivial, solved = components()
    assert (target(trivial, "in process"), target(solved, "in process")) == ("10000", "")
    scores = []
    for subject in (trivial, solved):
        way = InProcess(subject)
        scores.append(msgpack.unpackb(way.answer())["score"])
        way.close()
    assert scores == [0, 1_000_000]
    assert target(checksum(1), LINE) == "150"
