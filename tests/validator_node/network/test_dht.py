"""Any node answers any record by its key, whoever lies, dies or floods."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from protocol.codec import sha256
from protocol.records.record_key import DhtKind
from storage.errors import DatabaseDamagedError
from storage.record_store import HOUR_MS, GroupLimit
from tests.support import World
from tests.validator_node.dht_support import (
    DEADLINE_S,
    Records,
    dht_node,
    dht_nodes,
    dht_of,
    put_at,
)
from tests.validator_node.network.support import config, until
from validator_node.network import open_network
from validator_node.network.dht_lookup import RecordNotFoundError, RecordNotStoredError
from validator_node.records import RecordError
from validator_node.store import Store


@pytest.fixture
def records(world: World) -> Records:
    return Records(world)


async def test_every_node_answers_every_record(
    records: Records, store: Store, tmp_path: Path
) -> None:
    everything = [
        records.blob(),
        records.node(),
        records.submission(),
        records.checkpoint(4),
        records.validators(),
        records.evidence(),
        records.result(store),
    ]
    async with dht_nodes(records, tmp_path, 4) as (nodes, holders):
        for number, (key, value) in enumerate(everything):
            putter = dht_of(nodes[number % 4])
            assert await putter.put(key, value, deadline_s=DEADLINE_S) == 3
        for node in nodes:
            for key, value in everything:
                assert await dht_of(node).get(key, deadline_s=DEADLINE_S) == value
        assert [len(holder.kept) for holder in holders] == [len(everything)] * 4


async def test_derived_records_are_answered_without_being_put(
    records: Records, tmp_path: Path
) -> None:
    key, value = records.blob()
    async with dht_nodes(records, tmp_path, 3) as (nodes, holders):
        holders[2].derived[key] = value
        assert await dht_of(nodes[0]).get(key, deadline_s=DEADLINE_S) == value
        assert len(holders[2].kept) == 0
        assert await put_at(nodes[0], nodes[2], key, value)
        assert len(holders[2].kept) == 0  # what can be derived is not kept as well


async def test_with_the_holder_dead_another_one_answers(records: Records, tmp_path: Path) -> None:
    key, value = records.blob()
    async with dht_nodes(records, tmp_path, 3) as (nodes, holders):
        known = [address for node in nodes for address in node.addresses]
        async with dht_node(records.book(), tmp_path / "dying", 9, *known) as (dying, _):
            with trio.fail_after(DEADLINE_S):
                await dying.wait_connected(3)
            assert await dht_of(dying).put(key, value, deadline_s=DEADLINE_S) == 3
        holders[0].kept.delete(key)
        assert dht_of(nodes[0]).local(key) is None
        assert await dht_of(nodes[0]).get(key, deadline_s=DEADLINE_S) == value


async def test_a_restart_keeps_the_records(records: Records, tmp_path: Path) -> None:
    key, value = records.blob()
    async with dht_nodes(records, tmp_path, 2) as (nodes, _):
        await dht_of(nodes[0]).put(key, value, deadline_s=DEADLINE_S)
    async with dht_nodes(records, tmp_path, 2) as (nodes, holders):
        assert dht_of(nodes[1]).local(key) == value
        holders[0].kept.delete(key)
        assert await dht_of(nodes[0]).get(key, deadline_s=DEADLINE_S) == value


async def test_putting_again_renews_the_time_to_live(records: Records, tmp_path: Path) -> None:
    key, value = records.blob()
    now = 0
    async with dht_nodes(records, tmp_path, 2, now_ms=lambda: now) as (nodes, holders):
        putter = dht_of(nodes[0])
        assert await putter.put(key, value, deadline_s=DEADLINE_S) == 1
        now += 22 * HOUR_MS
        assert holders[0].kept.due() == [key]
        assert await putter.put(key, value, deadline_s=DEADLINE_S) == 1
        now += 22 * HOUR_MS
        assert dht_of(nodes[1]).local(key) == value
        now += 2 * HOUR_MS
        assert dht_of(nodes[1]).local(key) is None
        assert holders[1].kept.counts["expired"] == 1


async def test_the_newest_of_several_answers_wins(records: Records, tmp_path: Path) -> None:
    key, old = records.checkpoint(4)
    _, new = records.checkpoint(8)
    async with dht_nodes(records, tmp_path, 4) as (nodes, holders):
        for holder, value in zip(holders, (old, old, old, new), strict=True):
            holder.derived[key] = value
        assert await dht_of(nodes[0]).get(key, deadline_s=DEADLINE_S) == new
        assert dht_of(nodes[0]).local(key) == new
        with pytest.raises(RecordError, match="holds a newer") as caught:
            await dht_of(nodes[0]).put(key, old, deadline_s=DEADLINE_S)
        assert caught.value.reason == "older"


async def test_an_older_record_is_refused_and_a_newer_one_replaces_it(
    records: Records, tmp_path: Path
) -> None:
    key, first = records.node(sequence=1)
    _, second = records.node(sequence=2)
    async with dht_nodes(records, tmp_path, 2, liars=[1]) as (nodes, holders):
        assert await put_at(nodes[1], nodes[0], key, first)
        assert await put_at(nodes[1], nodes[0], key, second)
        assert not await put_at(nodes[1], nodes[0], key, first)
        assert holders[0].kept.get(key) == second
        assert nodes[0].counters["refused", "record_older"] == 1


async def test_what_is_no_record_is_refused_on_write(
    records: Records, store: Store, tmp_path: Path
) -> None:
    valid = [
        *(records.blob(), records.node(), records.submission(), records.checkpoint(4)),
        *(records.validators(), records.evidence(), records.result(store)),
    ]
    wrong = [(key, value[:-1] + bytes([value[-1] ^ 1])) for key, value in valid]
    wrong += [
        (valid[0][0].replace("/blob/", "/other/"), b"content"),
        (records.key(DhtKind.COLLATERAL, 1), b"x"),
        ("plain", b"x"),
        (records.key(DhtKind.BLOB, sha256(bytes(262_145))), bytes(262_145)),
    ]
    async with dht_nodes(records, tmp_path, 2, liars=[1]) as (nodes, holders):
        for key, value in wrong:
            assert not await put_at(nodes[1], nodes[0], key, value)
            with pytest.raises(RecordError):
                await dht_of(nodes[0]).put(key, value, deadline_s=DEADLINE_S)
        refusals = {
            reason: count
            for (name, reason), count in nodes[0].counters.items()
            if name == "refused" and reason.startswith("record_")
        }
        assert sum(refusals.values()) == len(wrong)
        assert refusals["record_too_large"] == 1
        assert nodes[0].score(nodes[1].peer_id) > 5
        assert len(holders[0].kept) == 0


async def test_a_lie_is_refused_on_read_and_an_honest_answer_found(
    records: Records, store: Store, tmp_path: Path
) -> None:
    valid = [
        *(records.blob(), records.node(sequence=5), records.submission()),
        *(records.checkpoint(8), records.validators(), records.evidence(), records.result(store)),
    ]
    async with dht_nodes(records, tmp_path, 4, liars=[0, 1]) as (nodes, holders):
        for key, value in valid:
            holders[0].derived[key] = value[:-1] + bytes([value[-1] ^ 1])
            holders[1].derived[key] = value + bytes(200_000)
            holders[3].derived[key] = value
        holders[0].derived[valid[1][0]] = records.node(sequence=4)[1]
        holders[1].derived[valid[3][0]] = records.checkpoint(7)[1]
        getter = dht_of(nodes[2])
        for key, value in valid:
            assert await getter.get(key, deadline_s=DEADLINE_S) == value


async def test_where_all_lie_the_error_says_why(records: Records, tmp_path: Path) -> None:
    async with dht_nodes(records, tmp_path, 3, liars=[1, 2]) as (nodes, holders):
        key, _ = records.blob()
        for holder in holders[1:]:
            holder.derived[key] = b"another content"
        with pytest.raises(RecordNotFoundError, match="2 wrong_hash") as caught:
            await dht_of(nodes[0]).get(key, deadline_s=DEADLINE_S)
        assert caught.value.refused == {"wrong_hash": 2}
        holders[1].derived[key] = bytes(280_000)  # longer than a record, shorter than a message
        holders[2].derived[key] = bytes(400_000)
        with pytest.raises(RecordNotFoundError) as caught:
            await dht_of(nodes[0]).get(key, deadline_s=DEADLINE_S)
        assert caught.value.refused == {"too_large": 1}


async def test_what_lies_wrong_in_the_own_store_is_never_answered(
    records: Records, tmp_path: Path
) -> None:
    async with dht_nodes(records, tmp_path, 2) as (nodes, holders):
        key, value = records.blob()
        holders[0].kept.put(key, b"altered on the disk")
        holders[0].derived[records.node()[0]] = b"altered as well"
        for asked in (key, records.node()[0]):
            with pytest.raises(RecordNotFoundError) as caught:
                await dht_of(nodes[1]).get(asked, deadline_s=DEADLINE_S)
            assert caught.value.refused == {}
        assert len(holders[0].kept) == 0
        assert nodes[0].counters["refused", "held_wrong_hash"] == 1
        holders[0].derived[key] = value
        assert await dht_of(nodes[1]).get(key, deadline_s=DEADLINE_S) == value


async def test_a_put_nobody_takes_is_an_error_and_stays_ours(
    records: Records, tmp_path: Path
) -> None:
    async with dht_node(records.book(), tmp_path / "alone", 1) as (node, _):
        key, value = records.blob()
        with pytest.raises(RecordNotStoredError, match="sent to 0 peers"):
            await dht_of(node).put(key, value, deadline_s=DEADLINE_S)
        assert await dht_of(node).get(key, deadline_s=DEADLINE_S) == value
        with pytest.raises(RecordNotFoundError, match="0 peers asked"):
            await dht_of(node).get(records.node()[0], deadline_s=DEADLINE_S)
        with pytest.raises(RecordError):
            await dht_of(node).get("/pk/abc", deadline_s=DEADLINE_S)


async def test_a_flood_of_puts_stays_within_the_bounds(records: Records, tmp_path: Path) -> None:
    limits = {"blob": GroupLimit(count=8, size=4_000), "node": GroupLimit(count=8, size=4_000)}
    async with dht_nodes(records, tmp_path, 2, liars=[1], limits=limits) as (nodes, holders):
        node_key, node_value = records.node()
        await put_at(nodes[1], nodes[0], node_key, node_value)
        taken = 0
        for number in range(100):
            key, value = records.blob(bytes([number]) * 500)
            taken += await put_at(nodes[1], nodes[0], key, value)
        assert taken == 100
        assert len(holders[0].kept) <= 9
        assert holders[0].kept.size <= 8_000
        assert holders[0].kept.get(node_key) == node_value
        assert nodes[0].score(nodes[1].peer_id) == 0


async def test_peers_that_are_no_servers_are_left_alone(records: Records, tmp_path: Path) -> None:
    key, value = records.blob()
    async with (
        dht_nodes(records, tmp_path, 2) as (nodes, _),
        open_network(config(8, *nodes[0].addresses)) as client,
    ):
        with trio.fail_after(DEADLINE_S):
            await nodes[0].wait_connected(2)
            await client.wait_connected(1)
        dht = dht_of(nodes[0])
        known = nodes[0]._host.get_peerstore()
        await until(lambda: client._host.get_id() in known.peer_ids())
        await until(lambda: known.get_protocols(client._host.get_id()))
        assert await dht.put(key, value, deadline_s=DEADLINE_S) == 1
        assert dht.table_size == 1
        assert [str(peer) for peer in dht._anchors()] == [nodes[1].peer_id]


async def test_providers_of_large_content_are_found(records: Records, tmp_path: Path) -> None:
    digest = sha256(b"large")
    async with dht_nodes(records, tmp_path, 3) as (nodes, _):
        assert await dht_of(nodes[0]).provide(digest, deadline_s=DEADLINE_S)
        found = await dht_of(nodes[2]).find_providers(digest, deadline_s=DEADLINE_S)
        assert list(found) == [nodes[0].peer_id]
        assert set(found[nodes[0].peer_id]) == set(nodes[0].addresses)
        nothing = await dht_of(nodes[2]).find_providers(sha256(b"other"), deadline_s=DEADLINE_S)
        assert nothing == {}


async def test_a_failing_database_ends_the_network(records: Records, tmp_path: Path) -> None:
    key, _ = records.blob()

    class Damaged(dict[str, bytes]):
        def get(self, *_: object) -> bytes:
            raise DatabaseDamagedError("database: damaged")

    async def serve_damaged(*known: str) -> None:
        async with dht_node(records.book(), tmp_path / "damaged", 2, *known) as (node, _):
            dht_of(node).records._derived = Damaged().get
            with trio.fail_after(DEADLINE_S):
                await trio.sleep_forever()

    async with (
        dht_node(records.book(), tmp_path / "sound", 1) as (sound, _),
        trio.open_nursery() as nursery,
    ):
        failed = trio.Event()

        async def watch() -> None:
            with pytest.raises(DatabaseDamagedError):
                await serve_damaged(*sound.addresses)
            failed.set()

        nursery.start_soon(watch)
        with trio.fail_after(DEADLINE_S):
            await sound.wait_connected(1)
            with pytest.raises(RecordNotFoundError):
                await dht_of(sound).get(key, deadline_s=DEADLINE_S)
            await failed.wait()
