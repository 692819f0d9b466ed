"""Bodies that are awaited, on a virtual clock: who is asked, when it is over, and the bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from protocol.codec import decode, encode, sha256
from protocol.records.blob import BlobReply, BlobRequest
from protocol.records.submission import (
    MAX_BODY_BYTES,
    PostedSubmission,
    SignedSubmission,
    Submission,
)
from tests.support import World
from validator_node.blobs.asking import CHUNK_S, MIN_BYTES_PER_S
from validator_node.blobs.awaited import (
    BODY_DEADLINE_S,
    MAX_IN_ALL,
    MAX_OF_HOTKEY,
    TICK_S,
    AwaitedBodies,
    BodyCallbacks,
)
from validator_node.blobs.fetcher import BlobFetcher
from validator_node.blobs.queue import BODIES
from validator_node.network.errors import DeadlineExceededError


class Site:
    """Awaited bodies, the peers that hold them, and what came of it.

    Nothing here verifies who signed a submission, so that there are any number of hotkeys.
    """

    def __init__(self) -> None:
        self.world = World()
        self.held: dict[str, dict[bytes, bytes]] = {}
        self.silent: set[str] = set()
        self.dripping: set[str] = set()
        """They send junk, just fast enough to be kept."""
        self.asked: list[str] = []
        self.kept: dict[bytes, bytes] = {}
        self.here: list[bytes] = []
        self.refused: list[tuple[bytes, str]] = []
        self.open = self.most_open = 0
        callbacks = BodyCallbacks(
            validators=lambda: ["validator 1", "validator 2"],
            has=lambda submission: submission.body_hash in self.kept,
            keep=self.kept.__setitem__,
            on_here=lambda posted: self.here.append(id_of(posted)),
            on_refused=lambda posted, reason: self.refused.append((id_of(posted), reason)),
        )
        self.awaited = AwaitedBodies(BlobFetcher(self._ask), callbacks, trio.current_time)

    @property
    def unavailable(self) -> list[bytes]:
        return [submission_id for submission_id, why in self.refused if why == "body_unavailable"]

    async def _ask(self, peer_id: str, data: bytes, deadline_s: float) -> bytes:
        self.asked.append(peer_id)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            if peer_id in self.silent:
                await trio.sleep(deadline_s)
                raise DeadlineExceededError(f"{peer_id} did not answer")
        finally:
            self.open -= 1
        request = decode(BlobRequest, data)
        blob = self.held.get(peer_id, {}).get(request.digest, b"")
        piece = blob[request.offset : request.offset + request.length]
        if peer_id in self.dripping:
            await trio.sleep(len(piece) / (1.2 * MIN_BYTES_PER_S))
            piece = b"x" * len(piece)
        return encode(BlobReply(size=len(blob), data=piece))

    def posted(self, body: bytes, **changes) -> PostedSubmission:
        submission = self.world.submission(body, **changes)
        signed = SignedSubmission(submission=submission, signature=bytes(64))
        return PostedSubmission(signed=signed, body=b"")

    def add(self, body: bytes, peer_id: str = "forwarder", *, miner: int = 0) -> PostedSubmission:
        posted = self.posted(body, miner=miner)
        self.awaited.add(posted, b"message of " + body[:10], peer_id)
        return posted

    def hold(self, peer_id: str, body: bytes) -> None:
        self.held.setdefault(peer_id, {})[sha256(body)] = body

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.awaited.run)
            yield
            nursery.cancel_scope.cancel()


def id_of(posted: PostedSubmission) -> bytes:
    return posted.signed.submission.submission_id


BODY = b"a body " * 1000
RETRY_S = BODIES.retry_s


@pytest.fixture
def site() -> Site:
    return Site()


async def test_the_body_comes_from_the_forwarder(site: Site, autojump_clock) -> None:
    site.hold("forwarder", BODY)
    async with site.running():
        posted = site.add(BODY)
        assert id_of(posted) in site.awaited
        await trio.sleep(0.1)
    assert site.asked == ["forwarder"]
    assert (site.here, site.kept) == ([id_of(posted)], {sha256(BODY): BODY})
    assert (len(site.awaited), site.unavailable) == (0, [])


async def test_then_the_author_then_the_validators_are_asked(site: Site, autojump_clock) -> None:
    site.hold("validator 2", BODY)
    posted = site.add(BODY)
    site.awaited.note_author(b"another message", "somebody")
    site.awaited.note_author(b"message of " + BODY[:10], "author")
    async with site.running():
        await trio.sleep(0.1)
    assert site.asked[:2] == ["forwarder", "author"]
    assert {"validator 2"} <= set(site.asked[2:]) <= {"validator 1", "validator 2"}
    assert site.here == [id_of(posted)]


async def test_what_is_in_the_store_is_not_fetched(site: Site, autojump_clock) -> None:
    site.kept[sha256(BODY)] = BODY
    posted = site.add(BODY)
    async with site.running():
        await trio.sleep(0.1)
    assert (site.asked, site.here) == ([], [id_of(posted)])


async def test_it_is_tried_again_until_a_holder_has_it(site: Site, autojump_clock) -> None:
    """The validators that are asked first are fetching it themselves."""
    posted = site.add(BODY)
    async with site.running():
        await trio.sleep(3 * RETRY_S)
        assert site.here == []
        site.hold("validator 1", BODY)
        await trio.sleep(RETRY_S + 2 * TICK_S)
    assert site.here == [id_of(posted)]
    assert site.asked.count("forwarder") <= 5


async def test_what_does_not_come_in_time_is_unavailable(site: Site, autojump_clock) -> None:
    posted = site.add(BODY)
    async with site.running():
        await trio.sleep(BODY_DEADLINE_S - 1)
        assert site.unavailable == []
        assert id_of(posted) in site.awaited
        await trio.sleep(1 + RETRY_S + TICK_S)
    assert (site.unavailable, site.here) == ([id_of(posted)], [])
    assert len(site.awaited) == 0


async def test_a_body_that_never_comes_holds_up_its_hotkeys_only(
    site: Site, autojump_clock
) -> None:
    site.silent |= {"black hole", "validator 1", "validator 2"}
    site.hold("forwarder", BODY)
    for number in range(MAX_OF_HOTKEY):
        site.add(b"never %d" % number, "black hole", miner=1)
    good = site.add(BODY)
    async with site.running():
        await trio.sleep(0.1)
        assert site.here == [id_of(good)]
        assert site.most_open <= 2
        await trio.sleep(BODY_DEADLINE_S + CHUNK_S + TICK_S)
    assert len(site.unavailable) == MAX_OF_HOTKEY


async def test_a_forwarder_that_drips_does_not_keep_the_body_away(
    site: Site, autojump_clock
) -> None:
    body = bytes(MAX_BODY_BYTES)
    site.dripping.add("forwarder")
    site.hold("forwarder", body)
    site.hold("validator 1", body)
    posted = site.add(body)
    async with site.running():
        await trio.sleep(BODY_DEADLINE_S)
    assert (site.here, site.unavailable) == ([id_of(posted)], [])


def of_hotkey(site: Site, number: int, body: bytes = b"never") -> PostedSubmission:
    """A submission of one of many hotkeys."""
    return site.posted(b"%s %d" % (body, number), hotkey=sha256(b"hotkey %d" % number))


async def test_the_active_ones_are_bounded(site: Site, autojump_clock) -> None:
    site.silent.add("black hole")
    for number in range(2 * BODIES.slots):
        site.awaited.add(of_hotkey(site, number), b"", "black hole")
    async with site.running():
        await trio.sleep(BODY_DEADLINE_S)
    assert site.most_open == BODIES.slots


async def test_what_nobody_owes_and_others_have_admitted_is_not_begun(
    site: Site, autojump_clock
) -> None:
    site.hold("forwarder", BODY)
    posted = site.add(BODY)
    site.awaited.withdraw(id_of(posted))
    site.awaited.withdraw(id_of(posted))
    async with site.running():
        await trio.sleep(2 * BODY_DEADLINE_S)
    assert (site.asked, site.here, site.unavailable) == ([], [], [])


@pytest.mark.parametrize("begun_s", [0.0, 1.0], ids=["not begun", "begun"])
async def test_what_is_owed_is_fetched_however_long_it_takes(
    site: Site, autojump_clock, begun_s: float
) -> None:
    """Others have admitted it: its body is needed, from those who are known to have it."""
    evaluated: list[bytes] = []
    posted = site.add(BODY, "miner")
    submission = posted.signed.submission
    async with site.running():
        await trio.sleep(begun_s)
        site.awaited.owe(submission, lambda: evaluated.append(submission.submission_id))
        site.awaited.withdraw(id_of(posted))
        assert id_of(posted) not in site.awaited
        assert (len(site.awaited), site.awaited.owed) == (0, 1)
        await trio.sleep(5 * BODY_DEADLINE_S)
        assert evaluated == []
        site.hold("miner", BODY)
        await trio.sleep(BODIES.most_wait_s + TICK_S)
    assert (evaluated, site.kept) == ([id_of(posted)], {sha256(BODY): BODY})
    assert (site.here, site.refused, site.awaited.owed) == ([], [], 0)


async def test_what_the_network_has_ended_is_owed_no_longer(site: Site, autojump_clock) -> None:
    submission = site.posted(BODY).signed.submission
    async with site.running():
        site.awaited.owe(submission, lambda: site.here.append(b"never"))
        await trio.sleep(1)
        site.awaited.forget(submission.submission_id)
        site.awaited.forget(submission.submission_id)
        site.hold("validator 1", BODY)
        await trio.sleep(BODY_DEADLINE_S)
    assert (site.here, site.refused, site.kept, site.awaited.owed) == ([], [], {}, 0)


async def test_whoever_brought_it_as_well_is_asked_too(site: Site, autojump_clock) -> None:
    posted = site.add(BODY)
    site.hold("another", BODY)
    site.awaited.note_peer(id_of(posted), "another")
    async with site.running():
        await trio.sleep(0.1)
    assert site.asked[:2] == ["forwarder", "another"]
    assert site.here == [id_of(posted)]


async def test_when_all_places_are_taken_who_waits_for_most_gives_way(
    site: Site, autojump_clock
) -> None:
    for number in range(MAX_IN_ALL // MAX_OF_HOTKEY):
        for count in range(MAX_OF_HOTKEY):
            site.awaited.add(of_hotkey(site, number, b"%d of" % count), b"", "forwarder")
    assert len(site.awaited) == MAX_IN_ALL
    newcomers = [of_hotkey(site, 1000 + number) for number in range(2 * MAX_OF_HOTKEY)]
    for posted in newcomers:
        assert site.awaited.has_room_for([posted.signed.submission])
        site.awaited.add(posted, b"", "forwarder")
    assert len(site.awaited) == MAX_IN_ALL
    assert [reason for _, reason in site.refused] == ["busy"] * len(newcomers)
    assert all(id_of(posted) in site.awaited for posted in newcomers)
    greedy = of_hotkey(site, 0, b"one more of").signed.submission
    assert not site.awaited.has_room_for([greedy])


def sized(site: Site, size: int, miner: int = 0) -> Submission:
    return site.world.submission(b"%d" % size, miner=miner, body_size=size)


async def test_count_and_bytes_are_bounded_for_each_hotkey_and_in_all(
    site: Site, autojump_clock
) -> None:
    def fits(*submissions: Submission) -> bool:
        return site.awaited.has_room_for(submissions)

    whole = sized(site, MAX_BODY_BYTES)
    assert fits(*[sized(site, 5000)] * MAX_OF_HOTKEY)
    assert not fits(*[sized(site, 5000)] * (MAX_OF_HOTKEY + 1))
    assert fits(*[whole] * 4)
    assert not fits(*[whole] * 4, sized(site, 1))
    assert fits(*[whole] * 4, sized(site, 1, miner=1))
    for number in range(MAX_OF_HOTKEY):
        assert fits(sized(site, 5000))
        site.add(b"body %d" % number)
    assert not fits(sized(site, 5000))
    assert fits(sized(site, 5000, miner=1))
    assert site.awaited.announced_bytes == 6 * MAX_OF_HOTKEY
