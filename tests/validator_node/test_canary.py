"""The canary service with real workers: reports, failures, fetching, and the check at the start."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
import trio
from trio.testing import MockClock

import validator_node.canary as canary_module
from challenges import examples
from challenges.record import challenge_record
from protocol.codec import ZERO_DIGEST, digest_of, encode, sha256
from protocol.records.canary import CanaryItem, CanaryVector, CanaryVectors
from protocol.records.challenge import Challenge
from protocol.view import DictView
from registry import keys
from registry.access import write
from registry.lifecycle import propose
from runtime.errors import Fault, FaultReason
from runtime.job import EvaluationJob
from runtime.outcome import Outcome, OutcomeClass
from runtime.pool import WorkerPool, open_pool
from tests.runtime.modules import POLICY, WORLD, module, output, returning
from tests.support import make_challenge, replaced
from validator_node.canary import PATIENCE_S, CanaryFailedError, CanaryService
from validator_node.modules import Modules

ANSWER = output(score=700_000)
CODE = module(returning(ANSWER), data=ANSWER)
WAIT_S = 60


def vector(name: str, outcome_class: str = "ok", answer: bytes = ANSWER) -> CanaryVector:
    return CanaryVector(
        name=name,
        submission=name.encode(),
        miner=bytes(32),
        context=WORLD,
        outcome_class=outcome_class,
        output=answer,
    )


class Site:
    """A canary service; everything of the network is in `elsewhere`."""

    def __init__(self, *vectors: CanaryVector) -> None:
        self.vectors = encode(CanaryVectors(vectors=vectors))
        self.challenge = replaced(
            make_challenge("alpha", version=2),
            module_hash=sha256(CODE),
            policy=POLICY,
            vectors=sha256(self.vectors),
        )
        self.elsewhere = {sha256(thing): thing for thing in (CODE, self.vectors)}
        self.fetched: list[bytes] = []
        self.said: list[CanaryItem] = []
        self.reported = trio.Event()
        self.full = 0

    async def fetch(self, digest: bytes) -> bytes | None:
        await trio.lowlevel.checkpoint()
        self.fetched.append(digest)
        return self.elsewhere.get(digest)

    def say(self, item: CanaryItem) -> bool:
        if self.full:
            self.full -= 1
            return False
        self.said.append(item)
        self.reported.set()
        return True

    @asynccontextmanager
    async def running(self, folder: Path) -> AsyncIterator[CanaryService]:
        modules = Modules({}, folder)
        async with (
            open_pool(1, module_source=modules.get) as pool,
            trio.open_nursery() as nursery,
        ):
            service = CanaryService(pool, modules, self.fetch, say=self.say, deadline_ms=20_000)
            nursery.start_soon(service.run)
            yield service
            nursery.cancel_scope.cancel()

    def proposed(self) -> DictView:
        view = DictView()
        assert propose(view, self.challenge, 1) is None
        return view

    def activated(self) -> DictView:
        view = DictView()
        write(view, keys.CHALLENGE + b"alpha", self.challenge)
        return view

    async def report(self, folder: Path) -> CanaryItem:
        async with self.running(folder) as service:
            service.look(self.proposed(), 0)
            service.look(self.proposed(), 0)
            with trio.fail_after(WAIT_S):
                await self.reported.wait()
        [item] = self.said
        assert item.challenge == digest_of(self.challenge)
        return item


async def test_equal_vectors_give_equal_reports_and_everything_is_fetched_once(
    tmp_path: Path,
) -> None:
    vectors = (vector("one"), vector("two"))
    first, second = Site(*vectors), Site(*vectors)
    item = await first.report(tmp_path / "a")
    assert (item.failure, item.results == ZERO_DIGEST) == ("", False)
    assert await second.report(tmp_path / "b") == item
    assert first.fetched == [first.challenge.vectors, first.challenge.module_hash]
    again = Site(*vectors)
    assert await again.report(tmp_path / "a") == item
    assert again.fetched == []


@pytest.mark.parametrize(
    ("wrong", "failure"),
    [
        (vector("bad", "trap", b""), "bad: ok, expected trap"),
        (vector("bad", "ok", output(score=1)), "bad: output "),
    ],
)
async def test_the_first_vector_that_fails_is_named(
    tmp_path: Path, wrong: CanaryVector, failure: str
) -> None:
    item = await Site(vector("good"), wrong, vector("never run", "trap")).report(tmp_path)
    assert item.results == ZERO_DIGEST
    assert item.failure.startswith(failure)


async def test_vectors_that_cannot_be_read_are_a_failure(tmp_path: Path) -> None:
    site = Site(vector("one"))
    site.challenge = replaced(site.challenge, vectors=sha256(b"no vectors"))
    site.elsewhere[sha256(b"no vectors")] = b"no vectors"
    item = await site.report(tmp_path)
    assert item.failure.startswith("the vectors cannot be read")


def example(name: str) -> tuple[Challenge, dict[bytes, bytes]]:
    loaded = examples.load(name)
    record = challenge_record(loaded.spec, loaded.module_hash, loaded.blobs, loaded.vectors)
    return record, {record.module_hash: loaded.module, record.vectors: loaded.vectors}


async def test_the_check_at_the_start_passes_the_examples_and_names_what_fails(
    tmp_path: Path,
) -> None:
    record, parts = example("text_compression")
    site = Site(vector("one"))
    modules = Modules(parts, tmp_path)
    async with open_pool(1, module_source=modules.get) as pool:
        service = CanaryService(pool, modules, site.fetch, say=site.say, deadline_ms=20_000)
        await service.check_active((record,))
        other = replaced(record, params=encode({"max_bytes": 1, "par_bytes": 1}))
        with pytest.raises(CanaryFailedError, match=r"text_compression version 1: test vector \w"):
            await service.check_active((other,))


# --- what is not given up ------------------------------------------------------------------------


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(WAIT_S):
        while not condition():  # noqa: ASYNC110 - workers and threads give no event
            await trio.sleep(0.01)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary_module, "FETCH_AGAIN_S", 0.01)
    monkeypatch.setattr(canary_module, "RETRY_AFTER_S", 0.01)


def holds_all(site: Site, folder: Path) -> bool:
    modules = Modules({}, folder)
    return all(modules.has(sha256(thing)) for thing in (CODE, site.vectors))


@pytest.mark.parametrize("me", [0, None])
async def test_every_node_gets_what_is_active_and_says_nothing(
    tmp_path: Path, me: int | None
) -> None:
    site = Site(vector("one"))
    async with site.running(tmp_path) as service:
        service.look(site.activated(), me)
        await until(lambda: len(service._found) == 1)
        assert holds_all(site, tmp_path)
        assert service.failed == 0
    assert site.said == []


async def test_an_active_version_that_fails_here_is_counted_once_and_the_node_goes_on(
    tmp_path: Path,
) -> None:
    site = Site(vector("bad", "trap", b""))
    view = site.activated()
    async with site.running(tmp_path) as service:
        service.look(view, 0)
        await until(lambda: service.failed == 1)
        write(view, keys.CHALLENGE + b"alpha", replaced(site.challenge, emission=77))
        service.look(view, 0)
        next_one = Site(vector("one"))
        site.elsewhere |= next_one.elsewhere
        assert propose(view, replaced(next_one.challenge, version=3), 5) is None
        service.look(view, 0)
        await until(lambda: len(site.said) == 1)
        assert service.failed == 1
    assert site.said[0].failure == ""


@pytest.mark.usefixtures("impatient")
async def test_what_nobody_has_is_asked_for_until_it_comes_and_holds_up_nothing_else(
    tmp_path: Path,
) -> None:
    site = Site(vector("one"))
    code = site.elsewhere.pop(sha256(CODE))
    other = replaced(make_challenge("beta"), module_hash=sha256(b"not wasm"), policy=POLICY)
    other = replaced(other, vectors=sha256(b"no vectors"))
    site.elsewhere |= {sha256(thing): thing for thing in (b"no vectors", b"not wasm")}
    view = site.proposed()
    assert propose(view, other, 1) is None
    async with site.running(tmp_path) as service:
        service.look(view, 0)
        await until(lambda: site.fetched.count(sha256(CODE)) > 5 and len(site.said) == 1)
        assert site.said[0].challenge == digest_of(other)
        site.elsewhere[sha256(CODE)] = code
        await until(lambda: len(site.said) == 2)
        assert site.said[1].challenge == digest_of(site.challenge)
        assert len(service._tasks) == 0


@pytest.mark.usefixtures("impatient")
async def test_a_version_that_is_not_wanted_any_more_is_not_asked_for(tmp_path: Path) -> None:
    site = Site(vector("one"))
    del site.elsewhere[sha256(CODE)]
    async with site.running(tmp_path) as service:
        service.look(site.proposed(), 0)
        await until(lambda: len(site.fetched) > 3)
        service.look(DictView(), 0)
        await until(lambda: not service._tasks)
        service.look(site.proposed(), None)
        assert not service._wanted, "an observer tests no candidates"
    assert site.said == []


@pytest.mark.usefixtures("impatient")
async def test_a_folder_that_cannot_be_written_and_a_full_queue_are_waited_for(
    tmp_path: Path,
) -> None:
    site = Site(vector("one"))
    site.full = 2
    folder = tmp_path / "modules"
    folder.write_text("a file is in the way")
    async with site.running(folder) as service:
        service.look(site.proposed(), 0)
        await until(lambda: len(site.fetched) > 4)
        folder.unlink()
        await until(lambda: len(site.said) == 1)
        assert site.full == 0


@pytest.mark.usefixtures("impatient")
async def test_a_candidate_proposed_again_is_reported_again(tmp_path: Path) -> None:
    site = Site(vector("one"))
    view = site.proposed()
    async with site.running(tmp_path) as service:
        service.look(view, 0)
        await until(lambda: len(site.said) == 1)
        again = DictView()
        assert propose(again, site.challenge, 2) is None
        service.look(again, 0)
        await until(lambda: len(site.said) == 2)
    assert site.said[0] == site.said[1]


class Faulty:
    """A pool that cannot run anything; after `good_after_s` it gives what the vector expects."""

    def __init__(self, reason: FaultReason, good_after_s: float) -> None:
        self.reason = reason
        self.good_at = trio.current_time() + good_after_s
        self.asked_at: list[float] = []

    async def evaluate(self, job: EvaluationJob) -> Outcome:
        await trio.lowlevel.checkpoint()
        self.asked_at.append(trio.current_time())
        if trio.current_time() < self.good_at:
            raise Fault(self.reason, "on demand")
        return Outcome(
            outcome_class=OutcomeClass.OK,
            output=ANSWER,
            score=700_000,
            valid=True,
            message="ok",
            fuel_used=1,
            verdict_hash=sha256(b"verdict"),
            log=(),
        )

    async def check(self, folder: Path) -> float:
        """Run the check at a start with this pool; return how long it took."""
        site = Site(vector("one"))
        service = CanaryService(
            cast("WorkerPool", self),
            Modules(site.elsewhere, folder),
            site.fetch,
            say=site.say,
            deadline_ms=1,
        )
        began = trio.current_time()
        await service.check_active((site.challenge,))
        return trio.current_time() - began


async def test_the_check_at_the_start_waits_for_what_passes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    assert 100 <= await Faulty(FaultReason.WORKER_LOST, 100).check(tmp_path) < 200
    compiling = Faulty(FaultReason.COMPILE_TIMEOUT, 30)
    assert 60 <= await compiling.check(tmp_path) < 61
    assert len(compiling.asked_at) == 2


async def test_the_check_at_the_start_gives_up_after_its_patience(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    pool = Faulty(FaultReason.OVERLOADED, 10_000)
    with pytest.raises(CanaryFailedError, match="overloaded: on demand"):
        await pool.check(tmp_path)
    assert pool.asked_at[-1] - pool.asked_at[0] >= PATIENCE_S


async def test_the_check_at_the_start_does_not_wait_for_what_lasts(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    pool = Faulty(FaultReason.ENGINE_MISMATCH, 10_000)
    with pytest.raises(CanaryFailedError, match="engine_mismatch"):
        await pool.check(tmp_path)
    assert len(pool.asked_at) == 1
