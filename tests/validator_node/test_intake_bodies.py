"""Submissions whose bodies travel by hash, from the gossip message to the admission."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from consensus.validators import Voters
from protocol.codec import decode, encode, sha256
from protocol.records.blob import BlobReply, BlobRequest
from protocol.records.statement import Statement
from protocol.records.submission import (
    MAX_BODY_BYTES,
    MAX_INLINE_BODY_BYTES,
    PostedSubmission,
    SubmissionMessage,
    submission_topic,
)
from tests.support import POLICY, World, replaced
from tests.validator_node.intake_support import intake_of, speaker_of
from tests.validator_node.network.support import nodes, until
from validator_node.batch_check import Checker
from validator_node.blobs.awaited import BODY_DEADLINE_S, MAX_OF_HOTKEY
from validator_node.blobs.fetcher import BlobFetcher, over
from validator_node.blobs.service import BlobService
from validator_node.intake import Intake
from validator_node.network.gossip import CheckAnswer
from validator_node.queries import QueryService
from validator_node.store import Store

BODY = b"a body " * 1000


@pytest.fixture
def world() -> World:
    """A network whose first challenge takes bodies of every size."""
    made = World(window=2, dispute_after=5)
    first, second = made.genesis.challenges
    policy = replaced(POLICY, max_input_bytes=2 * MAX_BODY_BYTES)
    made.genesis = replaced(made.genesis, challenges=(replaced(first, policy=policy), second))
    made.network_id = made.genesis.network_id
    made.voters = Voters(made.genesis.validators, made.network_id)
    return made


@pytest.fixture
def store(tmp_path: Path, world: World) -> Iterator[Store]:
    opened = Store.open(tmp_path / "db", world.genesis, create=True)
    yield opened
    opened.close()


class Site:
    """An intake of validator 0 with the real store; `held` is what its peers have."""

    def __init__(
        self, world: World, store: Store, *, rate: float = 1e6, fetcher: BlobFetcher | None = None
    ) -> None:
        self.world, self.store = world, store
        self.topic = submission_topic(world.network_id, "alpha")
        self.said: list[bytes] = []
        self.held: dict[str, dict[bytes, bytes]] = {}
        self.asked: list[str] = []
        self.lied: list[str] = []
        self.speaker = speaker_of(world, store, self._say, lambda: len(self.said))
        self.intake = intake_of(
            world,
            store,
            self.speaker,
            rate=rate,
            max_pending=20,
            fetcher=fetcher or BlobFetcher(self._ask, on_lie=self.lied.append),
            validators=lambda: ["validator"],
        )
        self.queries = QueryService(store, self.intake)

    async def _say(self, statement: Statement) -> None:
        self.said += [item.submission.submission_id for item in statement.items]

    async def _ask(self, peer_id: str, data: bytes, deadline_s: float) -> bytes:
        self.asked.append(peer_id)
        request = decode(BlobRequest, data)
        blob = self.held.get(peer_id, {}).get(request.digest, b"")
        end = request.offset + request.length
        return encode(BlobReply(size=len(blob), data=blob[request.offset : end]))

    def hold(self, peer_id: str, body: bytes, content: bytes | None = None) -> None:
        """Let a peer serve `content` under the hash of `body`."""
        self.held.setdefault(peer_id, {})[sha256(body)] = content or body

    def posted(self, body: bytes = BODY, **changes) -> PostedSubmission:
        return PostedSubmission(signed=self.world.signed(body, **changes), body=b"")

    def check(self, *posted: PostedSubmission, peer: str = "forwarder") -> bool:
        message = encode(SubmissionMessage(posted=posted))
        return self.intake.check(self.topic, message, peer) is CheckAnswer.ACCEPT

    def state(self, posted: PostedSubmission) -> str:
        reply = self.queries.reply(id_of(posted))
        return f"{reply.state} {reply.reason}".strip()

    @asynccontextmanager
    async def running(self):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.speaker.run)
            nursery.start_soon(self.intake.run)
            yield
            nursery.cancel_scope.cancel()


def id_of(posted: PostedSubmission) -> bytes:
    return posted.signed.submission.submission_id


@pytest.fixture
async def site(world: World, store: Store, autojump_clock) -> Site:
    return Site(world, store)


async def test_it_is_forwarded_at_once_and_admitted_once_the_body_is_here(
    site: Site, autojump_clock
) -> None:
    posted = site.posted()
    assert site.check(posted)
    assert site.state(posted) == "fetching"
    assert (site.intake.accepted, len(site.intake)) == (0, 0)
    async with site.running():
        await trio.sleep(10)
        assert site.said == []
        assert site.state(posted) == "fetching"
        site.hold("validator", BODY)
        await trio.sleep(10)
    assert set(site.said) == {id_of(posted)}
    assert site.state(posted) == "waiting"
    assert site.store.body(sha256(BODY)) == BODY


async def test_a_body_that_does_not_come_ends_it_with_a_reason(site: Site, autojump_clock) -> None:
    posted = site.posted()
    assert site.check(posted)
    async with site.running():
        await trio.sleep(BODY_DEADLINE_S + 2)
        assert site.state(posted) == "refused body_unavailable"
        assert site.intake.refused == {"body_unavailable": 1}
        assert site.said == []
        # Published again, it is tried again.
        site.hold("forwarder", BODY)
        assert site.check(posted)
        assert site.state(posted) == "fetching"
        await trio.sleep(1)
    assert site.state(posted) == "waiting"


async def test_a_wrong_body_costs_the_peer_and_not_the_miner(site: Site, autojump_clock) -> None:
    posted = site.posted()
    site.hold("forwarder", BODY, content=bytes(len(BODY)))
    site.hold("validator", BODY)
    assert site.check(posted)
    async with site.running():
        await trio.sleep(1)
    assert site.lied == ["forwarder"]
    assert site.state(posted) == "waiting"
    assert site.intake.refused == {}


async def test_the_author_is_asked_too(site: Site, autojump_clock) -> None:
    posted = site.posted()
    assert site.check(posted)
    site.intake.on_delivered(encode(SubmissionMessage(posted=(posted,))), "author")
    async with site.running():
        await trio.sleep(1)
    assert site.asked == ["forwarder", "author", "validator"]


async def test_a_body_this_node_has_is_not_fetched(site: Site, autojump_clock) -> None:
    site.store.put_body(sha256(BODY), BODY)
    site.store.flush()
    posted = site.posted()
    assert site.check(posted)
    async with site.running():
        await trio.sleep(1)
    assert (site.asked, site.state(posted)) == ([], "waiting")


async def test_what_others_have_admitted_is_fetched_but_not_said(
    site: Site, autojump_clock
) -> None:
    posted = site.posted()
    assert site.check(posted)
    async with site.running():
        await trio.sleep(1)
        site.world.decide(site.store, site.world.statement(1, posted.signed))
        site.intake.on_executed([id_of(posted)], [])
        await trio.sleep(BODY_DEADLINE_S)
    assert site.state(posted) == "pending"
    assert (site.said, site.intake.refused) == ([], {})


async def test_what_has_become_inadmissible_meanwhile_is_refused(
    site: Site, autojump_clock
) -> None:
    posted = site.posted(expiry_epoch=0)
    assert site.check(posted)
    site.hold("forwarder", BODY)
    site.world.end_epoch(site.store)
    async with site.running():
        await trio.sleep(1)
    assert site.state(posted) == "refused expired"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"body_size": MAX_INLINE_BODY_BYTES}, "body_mismatch"),
        ({"body_size": MAX_BODY_BYTES + 1}, "too_large"),
        ({"body_size": 2 * MAX_BODY_BYTES + 1}, "too_large"),
        ({"challenge_version": 9}, "other_version"),
    ],
    ids=["must travel inline", "beyond the protocol", "beyond the policy", "other version"],
)
async def test_without_its_body_it_passes_every_other_check(
    site: Site, changes: dict[str, int], reason: str
) -> None:
    assert not site.check(site.posted(**changes))
    assert site.intake.refused == {reason: 1}


async def test_it_must_be_signed_all_the_same(site: Site, autojump_clock) -> None:
    posted = site.posted()
    forged = replaced(posted, signed=replaced(posted.signed, signature=bytes(64)))
    assert not site.check(forged)
    assert site.state(posted) == "refused bad_signature"


async def test_twice_is_a_duplicate(site: Site, autojump_clock) -> None:
    posted = site.posted()
    assert site.check(posted)
    assert not site.check(posted)
    assert site.intake.refused == {"duplicate": 1}


async def test_those_of_a_hotkey_are_bounded_also_within_a_message(
    site: Site, autojump_clock
) -> None:
    many = [site.posted(BODY + bytes([number])) for number in range(MAX_OF_HOTKEY + 1)]
    assert not site.check(*many)
    assert site.intake.refused == {"busy": 1}
    assert site.check(*many[:-1])
    assert not site.check(many[-1])
    assert site.check(site.posted(miner=1))


async def test_all_that_waits_is_bounded_together(site: Site, autojump_clock) -> None:
    for number in range(12):
        assert site.check(site.world.posted(b"%d" % number))
    for number in range(8):
        assert site.check(site.posted(BODY + bytes([number])))
    assert not site.check(site.world.posted(b"one more"))
    assert site.intake.refused == {"busy": 1}


async def test_large_bodies_use_up_the_rate_sooner(
    world: World, store: Store, autojump_clock
) -> None:
    site = Site(world, store, rate=25)
    size = MAX_BODY_BYTES  # 65 of the 100 that are saved up
    assert site.check(site.posted(body_size=size))
    assert not site.check(site.posted(BODY + b"1", body_size=size))
    assert site.intake.refused == {"rate_limited": 1}
    assert site.check(site.posted(BODY + b"2"))
    await trio.sleep(2)
    assert site.check(site.posted(BODY + b"1", body_size=size))


async def test_a_small_rate_still_lets_a_large_body_through(
    world: World, store: Store, autojump_clock
) -> None:
    site = Site(world, store, rate=1)
    assert site.check(site.posted(body_size=MAX_BODY_BYTES))
    assert not site.check(site.posted(BODY + b"1"))
    await trio.sleep(4)
    assert site.check(site.posted(BODY + b"1"))


async def test_without_a_fetcher_only_what_travels_inline_is_taken(
    world: World, store: Store, autojump_clock
) -> None:
    site = Site(world, store)
    site.intake = Intake(
        store,
        Checker(world.voters, world.network_id),
        site.speaker,
        me=0,
        now=trio.current_time,
        submissions_per_second=10,
        max_pending=10,
    )
    assert not site.check(site.posted())
    assert site.intake.refused == {"body_unavailable": 1}
    assert site.check(world.posted(b"small"))


async def test_over_the_network_from_the_miner_that_published_it(
    world: World, store: Store
) -> None:
    """A message of 300 bytes, then a body of a megabyte from its author over streams."""
    body = bytes(range(256)) * 4096
    async with nodes(2) as (miner, validator), trio.open_nursery() as nursery:
        site = Site(world, store, fetcher=BlobFetcher(over(validator)))
        offered = BlobService([{sha256(body): body}.get])
        offered.serve(miner)
        messages = await validator.join(
            site.topic, lambda peer_id, data: site.intake.check(site.topic, data, peer_id)
        )

        async def read() -> None:
            async for message in messages:
                site.intake.on_delivered(message.data, message.author)

        nursery.start_soon(read)
        nursery.start_soon(site.intake.run)
        posted = site.posted(body)
        data = encode(SubmissionMessage(posted=(posted,)))
        assert len(data) < 400
        with trio.fail_after(20):
            await miner.wait_subscriber(site.topic)
            await miner.publish(site.topic, data)
        await until(lambda: site.intake.accepted == 1)
        assert store.body(sha256(body)) == body
        assert offered.served_bytes == len(body)
        nursery.cancel_scope.cancel()
