"""What intake does with submissions for which the state has no room yet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from protocol.codec import encode
from protocol.records.statement import Statement, StatementItem
from protocol.records.submission import PostedSubmission, SubmissionMessage, submission_topic
from registry import keys
from registry.access import read
from registry.pending import unsettled
from registry.submissions import NoOp
from tests.makers import make_verdict
from tests.support import World
from tests.validator_node.intake_support import intake_of, speaker_of
from validator_node.admission_turns import FLOOR_S as TURN_S
from validator_node.execution import Outcome
from validator_node.intake import WAITING_A_PENDING
from validator_node.network.gossip import CheckAnswer
from validator_node.queries import QueryService
from validator_node.store import Store

ROOM = 3
ALL = WAITING_A_PENDING * ROOM


@pytest.fixture
def world() -> World:
    return World((4, 1), window=2, dispute_after=50, max_pending_per_hotkey=ROOM)


@pytest.fixture
def store(tmp_path: Path, world: World) -> Iterator[Store]:
    opened = Store.open(tmp_path / "db", world.genesis, create=True)
    yield opened
    opened.close()


class Site:
    """Validator 0, whose weight is a quorum: what it says is ordered and executed at once."""

    def __init__(self, world: World, store: Store) -> None:
        self.world, self.store = world, store
        self.topic = submission_topic(world.network_id, "alpha")
        self.said = 0
        self.admitted: list[bytes] = []
        self.refused: list[NoOp] = []
        self.speaker = speaker_of(world, store, self._say, lambda: self.said)
        self.intake = intake_of(world, store, self.speaker, rate=1000)
        self.queries = QueryService(store, self.intake)

    async def _say(self, statement: Statement) -> None:
        self.said += 1
        self.execute(*statement.items)

    def execute(self, *items: StatementItem) -> Outcome:
        """Execute one slot and tell the intake, as a node does."""
        outcome = self.world.decide(self.store, self.world.statement(0, *items))
        self.refused += outcome.no_ops
        self.admitted += [admitted.submission_id for admitted in outcome.admitted]
        over = [result.submission_id for result in outcome.results]
        self.intake.on_executed([one.submission_id for one in outcome.admitted], over)
        return outcome

    def settle(self, posted: PostedSubmission) -> None:
        assert len(self.execute(make_verdict(id_of(posted))).results) == 1

    def check(self, *posted: PostedSubmission) -> bool:
        message = encode(SubmissionMessage(posted=posted))
        return self.intake.check(self.topic, message, "peer") is CheckAnswer.ACCEPT

    def state(self, posted: PostedSubmission) -> str:
        reply = self.queries.reply(id_of(posted))
        return f"{reply.state} {reply.reason}".strip()

    async def run(self, for_s: float) -> None:
        with trio.move_on_after(for_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.speaker.run)
                nursery.start_soon(self.intake.run)


def id_of(posted: PostedSubmission) -> bytes:
    return posted.signed.submission_id


def some(world: World, count: int, **how: int) -> list[PostedSubmission]:
    return [world.posted(b"%d" % number, **how) for number in range(count)]


async def test_what_has_no_room_waits_and_comes_in_order_once_there_is_some(
    world: World, store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    site = Site(world, store)
    sent = some(world, ALL)
    assert site.check(*sent)
    await site.run(4 * TURN_S)
    assert set(site.admitted) == {id_of(posted) for posted in sent[:ROOM]}
    assert {site.state(posted) for posted in sent[:ROOM]} == {"pending"}
    assert {site.state(posted) for posted in sent[ROOM:]} == {"waiting"}
    assert site.intake.admissions.held_back > 0
    for number, posted in enumerate(sent[:-ROOM], start=1):
        site.settle(posted)
        await site.run(4 * TURN_S)
        assert site.admitted[ROOM:] == [id_of(posted) for posted in sent[ROOM : ROOM + number]]
    for posted in sent[-ROOM:]:
        site.settle(posted)
    assert unsettled(store.tree.view()) == []
    assert not list(store.tree.items(keys.PENDING_OF))
    assert len(site.intake) == 0
    assert site.intake.refused == {}


async def test_only_the_oldest_is_asked_for_without_room_and_the_slots_go_on_to_the_deadline(
    world: World, store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    site = Site(world, store)
    sent = some(world, ALL)
    assert site.check(*sent)
    await site.run(4 * TURN_S)
    full_at = store.height
    await site.run(20 * TURN_S)
    asked = {no_op.subject for no_op in site.refused}
    assert {no_op.reason for no_op in site.refused} == {"too_many_pending"}
    assert asked == {id_of(sent[ROOM])}
    assert 9 <= store.height - full_at <= 11, "once in a round of two turns"
    await site.run(200 * TURN_S)  # nobody states a verdict: all of them time out
    assert set(site.admitted) == {id_of(posted) for posted in sent}


async def test_a_hotkey_that_is_full_holds_up_nobody_else(
    world: World, store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    site = Site(world, store)
    assert site.check(*some(world, ALL))
    await site.run(4 * TURN_S)
    others = [world.posted(b"other %d" % number, miner=1) for number in range(ROOM)]
    assert site.check(*others)
    await site.run(2.5 * TURN_S)
    assert {site.state(posted) for posted in others} == {"pending"}
    for posted in others:
        site.settle(posted)


async def test_what_expires_while_it_waits_is_refused_by_name(
    world: World, store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    site = Site(world, store)
    sent = some(world, ROOM + 2, expiry_epoch=0)
    assert site.check(*sent)
    await site.run(4 * TURN_S)
    assert site.state(sent[-1]) == "waiting"
    world.end_epoch(store)
    assert read(store.tree.view(), keys.Progress, keys.EPOCH) == keys.Progress(epoch=1)
    await site.run(4 * TURN_S)
    assert [site.state(posted) for posted in sent[ROOM:]] == ["refused expired"] * 2
    assert site.intake.refused == {"expired": 2}
    assert len(site.intake) == 0


async def test_what_waited_longer_than_its_body_is_kept_is_refused_by_name(
    world: World,
    store: Store,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = Site(world, store)
    sent = some(world, ROOM + 1)
    assert site.check(*sent)
    await site.run(4 * TURN_S)
    monkeypatch.setattr(store, "has_body", lambda digest: False)
    await site.run(4 * TURN_S)
    assert site.state(sent[-1]) == "refused body_unavailable"
    assert site.intake.refused == {"body_unavailable": 1}


async def test_a_hotkey_has_a_part_of_the_queue(world: World, store: Store) -> None:
    site = Site(world, store)
    sent = some(world, ALL + 2)
    assert site.check(*sent[: ALL - 1])
    assert not site.check(*sent[ALL - 1 : ALL + 1]), "all or nothing"
    assert site.intake.refused == {"too_many_pending": 1}
    assert site.check(sent[ALL - 1])
    assert not site.check(sent[ALL])
    assert site.state(sent[ALL]) == "refused too_many_pending"
    assert site.check(world.posted(b"other", miner=1))
    site.intake.on_executed([id_of(sent[0])], [])
    assert site.check(sent[ALL])
    assert site.state(sent[ALL]) == "waiting"
