"""The evaluation service with real workers: what it states, audits and abstains from."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from protocol.codec import ZERO_DIGEST, decode, encode, sha256
from protocol.records.blob import BlobReply, BlobRequest
from protocol.records.statement import Statement, StatementItem, VerdictItem
from protocol.records.submission import PostedSubmission
from registry.submissions import Admitted
from runtime.pool import open_pool
from storage.audit_log import AuditLog, read_audit
from tests.runtime.modules import POLICY, WORLD, module, output, returning
from tests.support import World, make_challenge, replaced
from tests.validator_node.network.support import until
from validator_node.blobs import AwaitedBodies, BlobFetcher
from validator_node.blobs.awaited import BodyCallbacks
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
        self.held: dict[bytes, bytes] = {sha256(BODY): BODY}
        """What another validator has."""
        self.asked: list[bytes] = []
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

    async def _ask(self, peer_id: str, data: bytes, deadline_s: float) -> bytes:
        request = decode(BlobRequest, data)
        self.asked.append(request.digest)
        blob = self.held.get(request.digest, b"")
        end = request.offset + request.length
        return encode(BlobReply(size=len(blob), data=blob[request.offset : end]))

    def bodies(self) -> AwaitedBodies:
        def refuse(posted: PostedSubmission, reason: str) -> None:
            raise AssertionError(f"nothing is fetched here that is not owed: {reason}")

        callbacks = BodyCallbacks(
            validators=lambda: ["validator"],
            has=lambda submission: self.store.body(submission.body_hash) is not None,
            keep=self.store.put_body,
            on_here=lambda posted: refuse(posted, "here"),
            on_refused=refuse,
        )
        return AwaitedBodies(BlobFetcher(self._ask), callbacks, trio.current_time)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[EvaluationService]:
        async with (
            open_pool(1, module_source={sha256(GOOD): GOOD}.get) as pool,
            trio.open_nursery() as nursery,
        ):
            bodies = self.bodies()
            service = EvaluationService(
                self.store, pool, self.speaker, bodies, self.audit, deadline_ms=20_000
            )
            nursery.start_soon(bodies.run)
            nursery.start_soon(service.run)
            nursery.start_soon(self.speaker.run)
            yield service
            nursery.cancel_scope.cancel()

    async def audited(self, count: int) -> None:
        """Wait until the log has so many entries, and write them."""
        await until(lambda: len(self.audit) >= count)
        self.audit.flush()


async def test_a_verdict_is_stated_and_audited(world: World, store: Store, tmp_path: Path) -> None:
    site = Site(world, store, tmp_path)
    admitted = site.admitted()
    async with site.running() as service:
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


async def test_a_fault_is_audited_and_ended_by_the_network_alone(
    world: World, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(world, store, tmp_path)
    admitted = site.admitted(code=b"a module that nobody has")
    async with site.running() as service:
        service.add(admitted)
        await site.audited(RETRIES)
        assert service.faults.keys() == {"module_missing"}
        assert len(service) <= 1
        monkeypatch.setattr(store, "result", lambda _id: "it has ended")
        await until(lambda: service.faults["abstained"])
    entries = list(read_audit(store.database, tmp_path / "audit"))
    assert {entry.event.fault for entry in entries} == {"module_missing"}
    assert {entry.event.verdict_hash for entry in entries} == {ZERO_DIGEST}
    assert site.items == []
    assert service.faults["module_missing"] >= RETRIES


async def test_what_costs_a_workers_time_each_time_is_given_up(
    world: World, store: Store, tmp_path: Path
) -> None:
    site = Site(world, store, tmp_path)
    admitted = site.admitted()
    bad = replaced(admitted.challenge, params=b"no map")
    async with site.running() as service:
        service.add(dataclasses.replace(admitted, challenge=bad))
        await until(lambda: service.faults["abstained"])
    assert service.faults == {"bad_job": RETRIES, "abstained": 1}


async def test_a_body_that_nobody_has_is_asked_for_until_somebody_has_it(
    world: World, store: Store, tmp_path: Path
) -> None:
    """However long: only the network's end of the submission ends it."""
    site = Site(world, store, tmp_path)
    site.held.clear()
    admitted = site.admitted()
    async with site.running() as service:
        service.add(admitted)
        await until(lambda: len(site.asked) > RETRIES)
        assert (len(service), len(site.audit), service.faults) == (1, 0, {})
        site.held[sha256(BODY)] = BODY
        with trio.fail_after(WAIT_S):
            await site.said.wait()
    [item] = site.items
    assert item.submission_id == admitted.submission_id


async def test_a_body_is_awaited_no_longer_when_the_network_has_ended_it(
    world: World, store: Store, tmp_path: Path
) -> None:
    site = Site(world, store, tmp_path)
    site.held.clear()
    admitted = site.admitted()
    async with site.running() as service:
        service.add(admitted)
        await until(lambda: site.asked)
        service.on_ended(admitted.submission_id)
        service.on_ended(admitted.submission_id)
        assert len(service) == 0
    assert service.faults == {"body_missing": 1, "abstained": 1}
    assert site.items == []


async def test_a_hotkey_whose_bodies_do_not_come_delays_nobody_else(
    world: World, store: Store, tmp_path: Path
) -> None:
    site = Site(world, store, tmp_path)
    async with site.running() as service:
        for number in range(40):
            submission = world.submission(b"%d" % number)
            missing = dataclasses.replace(site.admitted(), submission=submission)
            service.add(dataclasses.replace(missing, submission_id=submission.submission_id))
        submission = world.submission(BODY, miner=1)
        other = dataclasses.replace(site.admitted(), submission=submission)
        service.add(dataclasses.replace(other, submission_id=submission.submission_id))
        with trio.fail_after(WAIT_S):
            await site.said.wait()
        assert site.items[0].submission_id == submission.submission_id
        assert len(service) == 40


async def test_a_body_that_is_here_and_cannot_be_read_is_fetched_anew(
    world: World, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(world, store, tmp_path)
    admitted = site.admitted()
    store.put_body(sha256(BODY), BODY)
    read = store.body
    monkeypatch.setattr(store, "body", lambda digest: read(digest) if site.asked else None)
    async with site.running() as service:
        service.add(admitted)
        with trio.fail_after(WAIT_S):
            await site.said.wait()
    assert site.asked == [sha256(BODY)]
    assert service.faults == {"body_missing": 1}
