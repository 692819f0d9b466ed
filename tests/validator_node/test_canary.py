"""The canary service with real workers: reports, failures, fetching, and the check at the start."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from challenges import examples
from challenges.record import challenge_record
from protocol.codec import ZERO_DIGEST, digest_of, encode, sha256
from protocol.records.canary import CanaryItem, CanaryVector, CanaryVectors
from protocol.records.challenge import Challenge
from runtime.pool import open_pool
from tests.runtime.modules import POLICY, WORLD, module, output, returning
from tests.support import make_challenge, replaced
from validator_node.canary import CanaryFailedError, CanaryService
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

    async def fetch(self, digest: bytes) -> bytes | None:
        self.fetched.append(digest)
        return self.elsewhere.get(digest)

    def say(self, item: CanaryItem) -> bool:
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

    async def report(self, folder: Path) -> CanaryItem:
        async with self.running(folder) as service:
            service.add(self.challenge)
            service.add(self.challenge)
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
