from __future__ import annotations

import pytest
import trio

from protocol.codec import encode, sha256
from protocol.records.statement import Statement
from protocol.records.submission import (
    PostedSubmission,
    SignedSubmission,
    SubmissionMessage,
    submission_topic,
)
from tests.support import STRANGER, World, replaced
from validator_node.admission_turns import FLOOR_S as TURN_S
from validator_node.admission_turns import AdmissionTurns
from validator_node.batch_check import Checker
from validator_node.intake import MAX_MESSAGE_BYTES, Intake
from validator_node.network.gossip import CheckAnswer
from validator_node.refusal_memory import REMEMBERED as REMEMBERED_REFUSALS
from validator_node.refusals import answer_of
from validator_node.speaker import SAY_AFTER_S, Speaker
from validator_node.store import Store


class Site:
    """An intake with the real store, checker and speaker; what is said ends in `said`."""

    def __init__(
        self, world: World, store: Store, me: int = 0, *, rate: float = 1000, max_pending: int = 100
    ) -> None:
        self.world = world
        self.topic = submission_topic(world.network_id, "alpha")
        self.said: list[tuple[float, bytes]] = []
        self.answers: list[CheckAnswer] = []
        self.clock = trio.current_time
        self.speaker = Speaker(
            world.voters,
            me,
            world.keys[me],
            say=self._say,
            executed_counter=lambda: len(self.said),
            is_settled=lambda item: False,
            clock_ms=lambda: 0,
            first_counter=1,
        )
        self.intake = Intake(
            store,
            Checker(world.voters, world.network_id),
            self.speaker,
            me=me,
            now=lambda: self.clock(),
            submissions_per_second=rate,
            max_pending=max_pending,
        )

    async def _say(self, statement: Statement) -> None:
        for item in statement.items:
            self.said.append((trio.current_time(), item.submission.submission_id))

    def check(
        self, *posted: PostedSubmission, topic: str | None = None, peer: str = "peer"
    ) -> bool:
        answer = self.intake.check(
            topic or self.topic, encode(SubmissionMessage(posted=posted)), peer
        )
        self.answers.append(answer)
        return answer is CheckAnswer.ACCEPT

    def for_turn_of(self, validator: int, start: int = 0) -> PostedSubmission:
        """Return a submission that this validator is the first to admit."""
        for number in range(start, start + 10_000):
            posted = self.world.posted(b"%d" % number)
            if AdmissionTurns.rank(id_of(posted), validator, len(self.world.voters)) == 0:
                return posted
        raise AssertionError("unlikely")


@pytest.fixture
def site(world: World, store: Store) -> Site:
    made = Site(world, store)
    made.clock = lambda: 0.0
    return made


def why(site: Site, submission_id: bytes) -> str | None:
    """Return why a submission was refused."""
    known = site.intake.refusals.why(submission_id)
    return None if known is None else known[0]


def id_of(posted: PostedSubmission) -> bytes:
    return posted.signed.submission.submission_id


def test_a_good_submission_is_taken_in_with_its_body(site: Site, store: Store) -> None:
    posted = site.world.posted(b"a body")
    assert site.check(posted)
    assert site.intake.is_waiting(id_of(posted))
    assert (len(site.intake), site.intake.accepted) == (1, 1)
    store.flush()
    assert store.blobs.get(sha256(b"a body")) == b"a body"
    site.intake.on_executed([id_of(posted)], [])
    assert len(site.intake) == 0


def refusals(world: World) -> dict[str, PostedSubmission]:
    good = world.posted(b"good")
    signed = good.signed
    return {
        "wrong_network": World(name="other").posted(b"good"),
        "unregistered": PostedSubmission(
            signed=world.signed(b"x", hotkey=STRANGER.public_key), body=b"x"
        ),
        "other_version": world.posted(b"x", challenge_version=9),
        "too_large": world.posted(bytes(1001)),
        "expired": world.posted(b"x", expiry_epoch=0),
        "body_mismatch": replaced(good, body=b"doog"),
        "bad_signature": replaced(good, signed=replaced(signed, signature=bytes(64))),
        "wrong_topic": world.posted(b"x", challenge_id="beta"),
    }


@pytest.mark.parametrize("reason", sorted(refusals(World())))
def test_each_refusal_has_its_reason_and_refuses_the_whole_message(
    world: World, store: Store, site: Site, reason: str
) -> None:
    if reason == "expired":
        world.end_epoch(store)
        assert store.epoch == 1
    bad = refusals(world)[reason]
    fine = world.posted(b"fine")
    for message in ((bad,), (fine, bad), (bad, fine)):
        assert not site.check(*message)
    assert site.intake.refused == {reason: 3}
    assert site.answers == [answer_of(reason)] * 3, "its forwarder pays for it"
    assert why(site, id_of(bad)) == reason
    assert (len(site.intake), site.intake.accepted) == (0, 0)
    assert why(site, id_of(fine)) is None
    assert store.blobs.get(sha256(b"fine")) is None
    assert site.check(fine)


def test_an_unknown_challenge_has_no_topic_here(world: World, site: Site) -> None:
    posted = world.posted(b"x", challenge_id="gamma")
    assert not site.check(posted, topic=submission_topic(world.network_id, "gamma"))
    assert site.intake.refused == {"unknown_challenge": 1}
    topics = [submission_topic(world.network_id, name) for name in ("alpha", "beta")]
    assert site.intake.topics() == topics


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "malformed"),
        (b"\xc1", "malformed"),
        (encode(SubmissionMessage(posted=())), "malformed"),
        (bytes(MAX_MESSAGE_BYTES + 1), "too_large"),
    ],
    ids=["empty", "garbage", "no submissions", "too large"],
)
def test_what_is_no_message_is_refused(site: Site, data: bytes, reason: str) -> None:
    assert site.intake.check(site.topic, data, "peer") is CheckAnswer.REJECT
    assert site.intake.refused == {reason: 1}


def test_a_message_with_nothing_new_is_not_forwarded(site: Site) -> None:
    first, second = site.world.posted(b"1"), site.world.posted(b"2")
    assert site.check(first)
    assert not site.check(first)
    assert site.intake.refused == {"duplicate": 1}
    assert site.check(first, second)
    assert (site.intake.accepted, len(site.intake)) == (2, 2)
    assert why(site, id_of(first)) is None


def test_what_the_state_has_admitted_is_a_duplicate(world: World, store: Store, site: Site) -> None:
    posted = world.posted(b"1")
    world.decide(store, world.statement(0, posted.signed))
    assert not site.check(posted)
    assert site.intake.refused == {"duplicate": 1}


def test_the_same_submission_twice_in_a_message_counts_once(site: Site) -> None:
    posted = site.world.posted(b"1")
    assert site.check(posted, posted)
    assert (site.intake.accepted, len(site.intake)) == (1, 1)


def test_each_hotkey_has_its_rate(world: World, store: Store) -> None:
    site = Site(world, store, rate=1)
    now = 100.0
    site.clock = lambda: now
    for number in range(4):
        assert site.check(world.posted(b"%d" % number))
    assert not site.check(world.posted(b"4"))
    assert site.intake.refused == {"rate_limited": 1}
    assert site.check(world.posted(b"4", miner=1))
    now += 1.0
    assert site.check(world.posted(b"4"))
    assert why(site, id_of(world.posted(b"4"))) is None
    assert not site.check(world.posted(b"5"))


def test_forgeries_cost_their_forwarder_not_the_hotkey_they_name(
    world: World, store: Store
) -> None:
    site = Site(world, store, rate=1)
    site.clock = lambda: 100.0
    for number in range(40):
        posted = world.posted(b"forged %d" % number)
        signed = SignedSubmission(submission=posted.signed.submission, signature=bytes(64))
        forged = PostedSubmission(signed=signed, body=posted.body)
        assert not site.check(forged, peer="hostile")
    assert site.intake.refused == {"bad_signature": 40}
    assert set(site.answers) == {CheckAnswer.REJECT}  # the network charges the forwarder
    assert site.check(world.posted(b"genuine"))


def test_cheap_refusals_do_not_cost_the_hotkeys_rate(world: World, store: Store) -> None:
    site = Site(world, store, rate=1)
    site.clock = lambda: 0.0
    for number in range(20):
        assert not site.check(world.posted(b"%d" % number, challenge_version=9))
    assert set(site.answers) == {CheckAnswer.USELESS}
    assert site.check(world.posted(b"good"))


def test_a_glance_knows_who_is_registered_and_verifies_nothing(
    world: World, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(world, store)
    monkeypatch.setattr(Checker, "check_submission", lambda *_: pytest.fail("verified"))
    good = world.posted(b"good")
    unsigned = replaced(good, signed=replaced(good.signed, signature=bytes(64)))
    stranger = world.posted(b"bad", hotkey=STRANGER.public_key)
    glance = site.intake.glance
    assert glance(encode(SubmissionMessage(posted=(good,)))) is None
    assert glance(encode(SubmissionMessage(posted=(unsigned,)))) is None  # the check will tell
    assert glance(encode(SubmissionMessage(posted=(good, stranger)))) is CheckAnswer.USELESS
    assert glance(b"no message") is CheckAnswer.REJECT
    assert why(site, id_of(stranger)) == "unregistered"
    assert len(site.intake) == 0


def test_the_queue_is_bounded(world: World, store: Store) -> None:
    site = Site(world, store, max_pending=2)
    site.clock = lambda: 0.0
    posted = [world.posted(b"%d" % number) for number in range(4)]
    assert site.check(posted[0])
    assert site.check(posted[1])
    assert not site.check(posted[2])
    assert why(site, id_of(posted[2])) == "busy"
    site.intake.on_executed([id_of(posted[0])], [])
    assert not site.check(*posted[2:])
    assert len(site.intake) == 1
    assert site.check(posted[2])


def test_the_memory_of_refusals_is_bounded(world: World, site: Site) -> None:
    submission = world.submission(challenge_version=9)
    signed = world.sign(submission)
    for number in range(0, REMEMBERED_REFUSALS + 32, 32):
        group = [
            PostedSubmission(
                signed=replaced(signed, submission=replaced(submission, expiry_epoch=expiry)),
                body=b"",
            )
            for expiry in range(number, number + 32)
        ]
        for posted in group:
            assert not site.check(posted)
    first = replaced(submission, expiry_epoch=31)
    last = replaced(submission, expiry_epoch=32)
    assert why(site, first.submission_id) is None
    assert why(site, last.submission_id) == "other_version"


# --- taking turns --------------------------------------------------------------------------------


async def run(site: Site, *, for_s: float) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.speaker.run)
        nursery.start_soon(site.intake.run)
        await trio.sleep(for_s)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("me", [0, 1, 2, 3])
async def test_validators_take_turns(world: World, store: Store, autojump_clock, me: int) -> None:
    site = Site(world, store, me)
    start = trio.current_time()
    posted = site.for_turn_of(1)
    assert site.check(posted)
    turn = (me - 1) % 4
    await run(site, for_s=turn * TURN_S + 0.9)
    ((at, submission_id),) = site.said
    assert submission_id == id_of(posted)
    assert turn * TURN_S <= at - start <= turn * TURN_S + 0.25 + SAY_AFTER_S + 0.01


async def test_what_stays_unadmitted_comes_round_again(
    world: World, store: Store, autojump_clock
) -> None:
    site = Site(world, store, me=0)
    assert site.check(site.for_turn_of(0))
    await run(site, for_s=4 * TURN_S - 0.1)
    assert len(site.said) == 1
    await run(site, for_s=0.6)
    assert len(site.said) == 2


async def test_what_is_admitted_is_not_said(world: World, store: Store, autojump_clock) -> None:
    site = Site(world, store, me=0)
    told, unseen = site.for_turn_of(1), site.for_turn_of(2, start=5000)
    assert site.check(told)
    assert site.check(unseen)
    site.intake.on_executed([id_of(told)], [])
    world.decide(store, world.statement(1, unseen.signed))
    await run(site, for_s=10)
    assert site.said == []
    assert len(site.intake) == 0


async def test_an_admission_overtakes_what_is_about_to_be_said(
    world: World, store: Store, autojump_clock
) -> None:
    site = Site(world, store, me=0)
    posted = site.for_turn_of(0)
    assert site.check(posted)
    site.intake.on_executed([id_of(posted)], [])
    await run(site, for_s=10)
    assert site.said == []


@pytest.mark.parametrize(("me", "at"), [(0, 1.0), (None, 4.0)])
async def test_turns_follow_the_index_of_the_epoch(
    world: World, store: Store, autojump_clock, me: int | None, at: float
) -> None:
    site = Site(world, store, me=3)
    site.intake.admissions.begin_epoch(me)
    start = trio.current_time()
    assert site.check(site.for_turn_of(3))
    await run(site, for_s=6)
    assert at <= site.said[0][0] - start <= at + 0.31
