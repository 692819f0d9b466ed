"""What is put when: paced, staggered, renewed, tried again, and bounded."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from consensus.messages import Evidence
from protocol.codec import decode
from protocol.records.checkpoint import CheckpointCertificate
from protocol.records.record_key import DhtKind
from protocol.records.validators import SignedNodeRecord
from storage.database import Database
from storage.record_store import HOUR_MS, RecordStore
from tests.support import World
from tests.validator_node.dht_support import Records, dht_nodes, dht_of
from tests.validator_node.network.support import until
from validator_node import record_service
from validator_node.network.dht_lookup import RecordNotStoredError
from validator_node.record_service import RecordService
from validator_node.records import RecordError
from validator_node.records.limits import RECORD_LIMITS

Put = tuple[float, str, bytes]


@pytest.fixture
def records(world: World) -> Records:
    return Records(world)


class Slots:
    """The DHT's face with a clock that jumps: sockets and jumps do not go together."""

    def __init__(self, kept: RecordStore) -> None:
        self.kept = kept
        self.puts: list[Put] = []
        self.failing: Callable[[str], Exception | None] = lambda _: None
        self.listeners: list[Callable[[str, bytes], None]] = []

    def on_put(self, listener: Callable[[str, bytes], None]) -> None:
        self.listeners.append(listener)

    def local(self, key: str) -> bytes | None:
        return self.kept.get(key)

    async def put(self, key: str, value: bytes, *, deadline_s: float) -> int:
        self.puts.append((trio.current_time(), key, value))
        error = self.failing(key)
        if error is not None:
            raise error
        self.kept.put(key, value, own=True)
        return 7

    def times(self, key: str) -> list[float]:
        return [at for at, name, _ in self.puts if name == key]


class Stage:
    def __init__(self, records: Records, database: Database) -> None:
        self.records = records
        self.kept = RecordStore(
            database, RECORD_LIMITS, lambda: int(trio.current_time() * 1000) + HOUR_MS
        )
        self.dht = Slots(self.kept)

    def service(self, place: tuple[int, int] | None = (0, 4)) -> RecordService:
        return make_service(self.records, self.dht, self.kept, place)


def make_service(
    records: Records, dht: Any, kept: RecordStore, place: tuple[int, int] | None
) -> RecordService:
    sequence = iter(range(1, 1_000))
    return RecordService(
        cast("Any", dht),
        kept,
        records.world.network_id,
        own_record=lambda: decode(
            SignedNodeRecord, records.node(0 if place is None else place[0], next(sequence))[1]
        ),
        place=lambda: place,
    )


@asynccontextmanager
async def running(*services: RecordService) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for service in services:
            nursery.start_soon(service.run)
        yield
        nursery.cancel_scope.cancel()


@pytest.fixture
async def stage(records: Records, tmp_path: Path) -> AsyncIterator[Stage]:
    with Database.open(tmp_path / "records", create=True) as database:
        yield Stage(records, database)


async def test_the_node_record_is_put_at_once_and_every_hour(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(stage.service()):
        await trio.sleep(2 * 3_600 + 60)
    times = stage.dht.times(stage.records.node()[0])
    assert [round(at - times[0]) for at in times] == [0, 3_600, 7_200]
    sequences = [decode(SignedNodeRecord, value).record.sequence for _, _, value in stage.dht.puts]
    assert sequences == [1, 2, 3]


async def test_evidence_and_sets_are_put_when_they_appear(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    service = stage.service(None)
    async with running(service):
        key, value = stage.records.evidence()
        service.on_evidence(decode(Evidence, value))
        service.on_stable(stage.records.stable(8, edge=True))
        await trio.sleep(600)
    put = {name: value for _, name, value in stage.dht.puts}
    assert put[key] == value
    set_key, certificate = stage.records.validators()
    assert put[set_key] == certificate
    assert stage.records.key(DhtKind.CHECKPOINT, "newest") not in put  # observers put none


async def test_checkpoints_are_put_once_a_minute_at_most_and_the_newest_of_them(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    service = stage.service((0, 4))
    key, _ = stage.records.checkpoint(0)
    async with running(service):
        await trio.sleep(60)  # the node record has its turn before
        began = trio.current_time()
        for seq in range(4, 304, 4):
            service.on_stable(stage.records.stable(seq))
            await trio.sleep(4)
    times = stage.dht.times(key)
    assert 4 <= len(times) <= 5
    assert all(later - earlier >= 60 for earlier, later in itertools.pairwise(times))
    for at, name, value in stage.dht.puts:
        if name == key:
            newest = 4 * int((at - began) // 4 + 1)
            assert decode(CheckpointCertificate, value).checkpoint.seq >= newest - 8


async def test_a_checkpoint_that_somebody_else_put_is_left_to_him(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    service = stage.service((2, 4))
    key, value = stage.records.checkpoint(4)
    async with running(service):
        service.on_stable(stage.records.stable(4))
        await trio.sleep(1)
        for listener in stage.dht.listeners:
            listener(key, value)
        await trio.sleep(120)
    assert stage.dht.times(key) == []
    assert service.counts["left_to_others"] == 1


async def test_each_validator_has_its_turn(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    """Validator 2 waits two places after the one whose turn slot 4 is, of four."""
    service = stage.service((2, 4))
    key, _ = stage.records.checkpoint(4)
    async with running(service):
        await trio.sleep(60)
        began = trio.current_time()
        service.on_stable(stage.records.stable(4))
        await trio.sleep(60)
    assert [at - began for at in stage.dht.times(key)] == [2 * record_service.STAGGER_S]


async def test_own_records_are_renewed_and_expired_ones_swept(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    service = stage.service(None)
    key, value = stage.records.blob()
    foreign, content = stage.records.blob(b"foreign")
    stage.kept.put(foreign, content)
    async with running(service):
        service.offer(key, value)
        await trio.sleep(23 * 3_600)
        assert stage.kept.get(foreign) == content
        await trio.sleep(24 * 3_600)
    times = stage.dht.times(key)
    assert [round((at - times[0]) / 3_600) for at in times] == [0, 22, 44]
    assert stage.kept.counts["expired"] == 1
    assert stage.kept.get(key) == value


async def test_puts_are_paced_and_bounded(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    service = stage.service(None)
    for number in range(300):
        service.offer(*stage.records.blob(number.to_bytes(2, "big")))
    service.offer(stage.records.blob(b"\0\0")[0], b"newer value of the same key")
    assert len(service) == record_service.MAX_WAITING
    assert service.counts["dropped"] == 300 - record_service.MAX_WAITING
    async with running(service):
        await trio.sleep(61)
    assert 12 <= len(stage.dht.puts) <= 13
    assert stage.dht.puts[0][2] == b"newer value of the same key"


async def test_a_put_nobody_took_is_tried_three_times(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    service = stage.service(None)
    key, value = stage.records.blob()
    stage.dht.failing = lambda name: RecordNotStoredError(name, 0) if name == key else None
    async with running(service):
        service.offer(key, value)
        await trio.sleep(1_000)
    times = stage.dht.times(key)
    assert len(times) == 3
    assert times[1] - times[0] >= record_service.RETRY_S
    assert (service.counts["retried"], service.counts["given_up"]) == (2, 1)


async def test_a_refused_put_is_not_tried_again(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    service = stage.service(None)
    key, value = stage.records.blob()
    stage.dht.failing = lambda name: RecordError("older", name) if name == key else None
    async with running(service):
        service.offer(key, value)
        await trio.sleep(1_000)
    assert len(stage.dht.times(key)) == 1
    assert service.counts["refused"] == 1


async def test_one_of_four_real_validators_puts_the_checkpoint(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_service, "PUT_EVERY_S", 0.01)
    monkeypatch.setattr(record_service, "STAGGER_S", 2.0)
    key, value = records.checkpoint(4)
    async with dht_nodes(records, tmp_path, 4) as (nodes, holders):
        services = [
            make_service(records, dht_of(node), holder.kept, (place, 4))
            for place, (node, holder) in enumerate(zip(nodes, holders, strict=True))
        ]
        async with running(*services):
            await until(lambda: all(service.counts["put"] == 1 for service in services))
            for service in services:
                service.on_stable(records.stable(4))
            await until(lambda: sum(service.counts["left_to_others"] for service in services) == 3)
        assert sum(service.counts["put"] for service in services) == 5
        for node in nodes:
            assert dht_of(node).local(key) == value
            for other in range(4):
                assert dht_of(node).local(records.node(other)[0]) is not None
