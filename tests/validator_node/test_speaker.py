from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager

import pytest
import trio

from protocol.codec import encode, sha256
from protocol.records.challenge_storage import StorageWrite
from protocol.records.statement import (
    MAX_STATEMENT_BYTES,
    MAX_STATEMENT_ITEMS,
    Statement,
    StatementItem,
)
from tests.support import World, make_observation, make_verdict, replaced
from validator_node import speaker as speaker_module
from validator_node.batch_check import Checker
from validator_node.speaker import MAX_OUTSTANDING, SAY_AFTER_S, SPOKEN_BYTES, Speaker, key_of

WORLD = World()
ME = 2


class Site:
    """A speaker of validator 2; what it says is executed only when the test says so."""

    def __init__(self, first_counter: int = 1, said: Iterable[Statement] = ()) -> None:
        self.said: list[tuple[float, Statement]] = []
        self.executed = first_counter - 1
        self.settled: set[bytes] = set()
        self.speaker = Speaker(
            WORLD.voters,
            ME,
            WORLD.keys[ME],
            say=self._say,
            executed_counter=lambda: self.executed,
            is_settled=lambda item: key_of(item)[1] in self.settled,
            clock_ms=lambda: int(trio.current_time() * 1000),
            first_counter=first_counter,
            said=said,
        )

    async def _say(self, statement: Statement) -> None:
        self.said.append((trio.current_time(), statement))

    def items(self) -> list[StatementItem]:
        return [item for _, statement in self.said for item in statement.items]


def verdicts(count: int, first: int = 0) -> Iterator[StatementItem]:
    for number in range(first, first + count):
        yield make_verdict(sha256(number.to_bytes(4, "big")))


@asynccontextmanager
async def running(first_counter: int = 1, said: Iterable[Statement] = ()) -> AsyncIterator[Site]:
    site = Site(first_counter, said)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.speaker.run)
        await trio.testing.wait_all_tasks_blocked()
        yield site
        nursery.cancel_scope.cancel()


async def test_a_statement_closes_some_time_after_its_first_item(autojump_clock) -> None:
    async with running() as site:
        start = trio.current_time()
        one, two, three = verdicts(3)
        assert site.speaker.add(one)
        await trio.sleep(SAY_AFTER_S / 2)
        assert site.speaker.add(two)
        await trio.sleep(1)
        assert site.speaker.add(three)
        await trio.sleep(1)
    assert [statement.items for _, statement in site.said] == [(one, two), (three,)]
    assert [at - start for at, _ in site.said] == pytest.approx(
        [SAY_AFTER_S, SAY_AFTER_S / 2 + 1 + SAY_AFTER_S]
    )


async def test_a_full_statement_does_not_wait(autojump_clock) -> None:
    async with running() as site:
        start = trio.current_time()
        items = list(verdicts(MAX_STATEMENT_ITEMS + 10))
        for item in items:
            site.speaker.add(item)
        await trio.sleep(1)
    assert [len(statement.items) for _, statement in site.said] == [MAX_STATEMENT_ITEMS, 10]
    assert [at - start for at, _ in site.said] == pytest.approx([0, SAY_AFTER_S])
    assert site.items() == items


async def test_a_statement_is_full_at_its_last_item(autojump_clock) -> None:
    async with running() as site:
        start = trio.current_time()
        for item in verdicts(MAX_STATEMENT_ITEMS):
            site.speaker.add(item)
        await trio.sleep(1)
    assert [at - start for at, _ in site.said] == pytest.approx([0])


async def test_statements_are_signed_and_counted(autojump_clock) -> None:
    checker = Checker(WORLD.voters, WORLD.network_id)
    async with running(first_counter=7) as site:
        for item in verdicts(3):
            site.speaker.add(item)
            await trio.sleep(1)
    for number, (at, statement) in enumerate(site.said):
        checker.check_statement(statement)
        header = statement.header
        assert (header.signer, header.counter) == (ME, 7 + number)
        assert header.clock_ms == int(at * 1000)
    assert len(site.said) == 3


async def test_the_same_item_is_queued_once(autojump_clock) -> None:
    signed = WORLD.signed()
    async with running() as site:
        for item in (signed, WORLD.sign(signed.submission), *verdicts(1), *verdicts(1)):
            assert site.speaker.add(item)
        site.speaker.add(make_observation(1, block=20))
        site.speaker.add(make_observation(1, block=21))
        await trio.sleep(1)
    ((_, statement),) = site.said
    assert len(statement.items) == 3
    assert statement.items[2] == make_observation(1, block=21)


def test_items_are_the_same_by_what_they_are_about() -> None:
    signed = WORLD.signed()
    submission_id = signed.submission.submission_id
    keys = [key_of(item) for item in (signed, make_verdict(submission_id), make_observation(1))]
    assert keys == [
        ("admit", submission_id),
        ("verdict", submission_id),
        ("observe", (1).to_bytes(8, "big")),
    ]


async def test_what_was_overtaken_is_dropped_unsaid(autojump_clock) -> None:
    one, two, three = verdicts(3)
    async with running() as site:
        for item in (one, two, three):
            site.speaker.add(item)
        site.settled.add(one.submission_id)
        site.speaker.drop("verdict", two.submission_id)
        site.speaker.drop("admit", three.submission_id)
        site.speaker.drop("verdict", sha256(b"unknown"))
        await trio.sleep(1)
    assert site.items() == [three]


async def test_a_statement_of_nothing_is_not_made(autojump_clock) -> None:
    (one,) = verdicts(1)
    async with running() as site:
        site.settled.add(one.submission_id)
        site.speaker.add(one)
        await trio.sleep(1)
        assert site.said == []
        site.speaker.add(next(verdicts(1, first=5)))
        await trio.sleep(1)
    assert [statement.header.counter for _, statement in site.said] == [1]


async def test_only_so_many_statements_wait_to_be_ordered(autojump_clock) -> None:
    async with running() as site:
        for item in verdicts(MAX_OUTSTANDING + 3):
            site.speaker.add(item)
            await trio.sleep(1)
        assert len(site.said) == MAX_OUTSTANDING
        site.speaker.wake()
        await trio.sleep(1)
        assert len(site.said) == MAX_OUTSTANDING
        site.executed = 1
        await trio.sleep(1)
        assert len(site.said) == MAX_OUTSTANDING
        site.speaker.wake()
        await trio.sleep(1)
        assert len(site.said) == MAX_OUTSTANDING + 1
    assert site.items() == list(verdicts(MAX_OUTSTANDING + 3))


async def test_what_does_not_fit_is_refused(
    autojump_clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speaker_module, "QUEUE_LIMIT", 2)
    one, two, three = verdicts(3)
    async with running() as site:
        assert site.speaker.add(one)
        assert site.speaker.add(two)
        assert not site.speaker.add(three)
        assert site.speaker.add(two)
        assert site.speaker.dropped == 1
        await trio.sleep(1)
        assert site.speaker.add(three)
        await trio.sleep(1)
    assert site.items() == [one, two, three]


async def test_what_an_epoch_left_unexecuted_is_said_again_in_the_next(autojump_clock) -> None:
    world = World()
    world.begin_epoch(1)
    one, two, three = verdicts(3)
    async with running(first_counter=5) as site:
        for item in (one, two):
            site.speaker.add(item)
            await trio.sleep(1)
        site.executed = 5
        site.speaker.add(three)
        await trio.sleep(1)
        site.executed = 0
        site.speaker.begin_epoch(world.voters, 1)
        await trio.sleep(1)
        again = site.said[-1][1]
    assert (again.header.epoch, again.header.counter, again.header.signer) == (1, 1, 1)
    assert again.items == (two, three)


async def test_an_epoch_that_begins_while_it_waits_loses_nothing(autojump_clock) -> None:
    (one,) = verdicts(1)
    async with running() as site:
        site.speaker.add(one)
        await trio.sleep(SAY_AFTER_S / 2)
        site.speaker.begin_epoch(WORLD.voters, None)
        await trio.sleep(1)
        assert site.said == []
        site.speaker.begin_epoch(WORLD.voters, ME)
        await trio.sleep(1)
    assert site.items() == [one]


async def test_what_was_said_before_a_restart_is_said_again_in_the_next_epoch(
    autojump_clock,
) -> None:
    world = World()
    world.begin_epoch(1)
    one, two, three = verdicts(3)
    said = [
        world.statement(ME, three, counter=5),
        WORLD.statement(ME, one, counter=4),
        WORLD.statement(ME, two, counter=5),
    ]
    async with running(first_counter=6, said=said) as site:
        site.executed = 4
        site.speaker.add(one)
        await trio.sleep(1)
        assert [statement.header.counter for _, statement in site.said] == [6]
        site.executed = 0
        site.speaker.begin_epoch(world.voters, ME)
        await trio.sleep(1)
    assert site.said[-1][1].header.epoch == 1
    assert site.said[-1][1].items == (two, one)


async def test_a_statement_is_shorter_than_what_validators_take(autojump_clock) -> None:
    longest = tuple(StorageWrite(key=bytes([n]), value=bytes(8180)) for n in (1, 2))
    items = [replaced(item, writes=longest) for item in verdicts(12)]
    async with running() as site:
        for item in items:
            assert site.speaker.add(item)
        await trio.sleep(1)
    assert site.items() == items
    sizes = [len(encode(statement)) for _, statement in site.said]
    assert len(sizes) == 4
    assert max(sizes) < SPOKEN_BYTES + 256 < MAX_STATEMENT_BYTES


async def test_an_item_that_no_validator_would_take_is_dropped(autojump_clock) -> None:
    """Said, it would leave a gap in the counters, and nothing after it would be ordered."""
    large = tuple(StorageWrite(key=bytes([n]), value=bytes(8192)) for n in range(1, 9))
    one, two, three = verdicts(3)
    async with running() as site:
        for item in (one, replaced(two, writes=large), three):
            site.speaker.add(item)
        await trio.sleep(1)
    assert site.items() == [one, three]
    assert site.speaker.dropped == 1


async def test_who_has_left_the_set_says_nothing(autojump_clock) -> None:
    async with running() as site:
        site.speaker.begin_epoch(WORLD.voters, None)
        site.speaker.add(next(verdicts(1)))
        await trio.sleep(1)
        assert site.said == []
        site.speaker.begin_epoch(WORLD.voters, ME)
        await trio.sleep(1)
        assert len(site.said) == 1
