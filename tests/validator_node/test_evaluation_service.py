"""The evaluation service with real workers: what it states, audits and abstains from."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from protocol.codec import ZERO_DIGEST, sha256
from protocol.records.statement import Statement, StatementItem, VerdictItem
from protocol.records.submission import Submission
from registry.submissions import Admitted
from runtime.pool import open_pool
from storage.audit_log import AuditLog, read_audit
from tests.runtime.modules import POLICY, WORLD, module, output, returning
from tests.support import World, make_challenge, replaced
from tests.validator_node.network.support import until
from validator_node.evaluation_service import RETRIES, EvaluationService
from validator_node.speaker import Speaker
from validator_node.store import Store

ANSWER = output(score=700_000)
GOOD = module(returning(ANSWER), data=ANSWER)
BODY = b"body"
WAIT_S = 60


class Site:
    """The service of validator 0 with its store, and what it said."""

    def __init__(self, world: World, store: Store, folder: Path) -> None:
        self.world = world
        self.store = store
        self.folder = folder
        self.audit = AuditLog(store.database, folder / "audit")
        self.items: list[StatementItem] = []
        self.fetched = 0
        self.said = trio.Event()
        self.speaker = Speaker(
            world.voters,
            0,
            world.keys[0],
            say=self._say,
            executed_counter=lambda: 0,
            is_settled=lambda item: False,
            clock_ms=lambda: 0,
            first_counter=1,
        )

    async def _say(self, statement: Statement) -> None:
        self.items += statement.items
        self.said.set()

    def admitted(self, code: bytes = GOOD) -> Admitted:
        submission = self.world.submission(BODY)
        challenge = replaced(make_challenge("alpha"), module_hash=sha256(code), policy=POLICY)
        return Admitted(submission.submission_id, submission, challenge, WORLD)

    async def fetch(self, submission: Submission) -> bytes | None:
        self.fetched += 1
        self.store.put_body(submission.body_hash, BODY)
        return BODY

    @asynccontextmanager
    async def running(
        self, fetch_body: Callable[[Submission], Awaitable[bytes | None]]
    ) -> AsyncIterator[EvaluationService]:
        async with (
            open_pool(1, module_source={sha256(GOOD): GOOD}.get) as pool,
            trio.open_nursery() as nursery,
        ):
            service = EvaluationService(
                self.store, pool, self.speaker, fetch_body, self.audit, deadline_ms=20_000
            )
            nursery.start_soon(service.run)
            nursery.start_soon(self.speaker.run)
            yield service
            nursery.cancel_scope.cancel()

    async def audited(self, count: int) -> None:
        """Wait until the log has so many entries, and write them."""
        await until(lambda: len(self.audit) >= count)
        self.audit.flush()


async def _has_none(submission: Submission) -> bytes | None:
    return None


async def test_a_verdict_is_stated_and_audited(world: World, store: Store, tmp_path: Path) -> None:
    site = Site(world, store, tmp_path)
    admitted = site.admitted()
    async with site.running(site.fetch) as service:
        service.add(admitted)
        with trio.fail_after(WAIT_S):
            await site.said.wait()
        await site.audited(1)
    [item] = site.items
    assert isinstance(item, VerdictItem)
    assert (item.submission_id, item.outcome_class, item.score) == (
        admitted.submission_id,
        "ok",
        700_000,
    )
    [entry] = read_audit(store.database, tmp_path / "audit")
    event = entry.event
    assert (event.submission_id, event.verdict_hash) == (item.submission_id, item.verdict_hash)
    assert (event.outcome_class, event.fault) == ("ok", "")
    assert event.fuel_used > 0
    assert service.classes == {"ok": 1}


async def test_a_fault_is_audited_and_ends_in_abstaining(
    world: World, store: Store, tmp_path: Path
) -> None:
    site = Site(world, store, tmp_path)
    async with site.running(site.fetch) as service:
        service.add(site.admitted(code=b"a module that nobody has"))
        await site.audited(RETRIES)
        await until(lambda: service.faults["abstained"])
    entries = list(read_audit(store.database, tmp_path / "audit"))
    assert [entry.event.fault for entry in entries] == ["module_missing"] * RETRIES
    assert {entry.event.verdict_hash for entry in entries} == {ZERO_DIGEST}
    assert site.items == []
    assert service.faults == {"module_missing": RETRIES, "abstained": 1}


async def test_a_body_that_nobody_has_ends_in_abstaining(
    world: World, store: Store, tmp_path: Path
) -> None:
    site = Site(world, store, tmp_path)
    async with site.running(_has_none) as service:
        service.add(site.admitted())
        await until(lambda: service.faults["abstained"])
    assert len(site.audit) == 0
    assert site.items == []


async def test_a_hotkey_whose_bodies_do_not_come_delays_nobody_else(
    world: World, store: Store, tmp_path: Path
) -> None:
    site = Site(world, store, tmp_path)
    asked: list[bytes] = []

    async def fetch(submission: Submission) -> bytes | None:
        asked.append(submission.hotkey)
        if submission.hotkey == world.miners[0].public_key:
            await trio.sleep_forever()
        return await site.fetch(submission)

    async with site.running(fetch) as service:
        for number in range(40):
            submission = world.submission(b"%d" % number)
            service.add(dataclasses.replace(site.admitted(), submission=submission))
        other = dataclasses.replace(site.admitted(), submission=world.submission(BODY, miner=1))
        service.add(other)
        with trio.fail_after(WAIT_S):
            await site.said.wait()
    assert site.items[0].submission_id == other.submission_id
    assert asked.count(world.miners[0].public_key) == 1
    assert len(service) == 39


async def test_a_body_that_is_here_and_cannot_be_read_is_fetched_once_more_and_then_given_up(
    world: World, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(world, store, tmp_path)
    monkeypatch.setattr(store, "body", lambda _digest: None)
    async with site.running(site.fetch) as service:
        service.add(site.admitted())
        await until(lambda: service.faults["abstained"])
    assert site.fetched == 2
    assert site.items == []
