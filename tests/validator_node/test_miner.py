"""The miner: what it makes, and that it hands out its long bodies until they are taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from protocol.codec import decode, encode, sha256
from protocol.records.genesis import Genesis
from protocol.records.submission import (
    MAX_INLINE_BODY_BYTES,
    Submission,
    SubmissionMessage,
    submission_topic,
)
from tests.support import World, replaced
from tests.validator_node.network.support import nodes
from validator_node.blobs.fetcher import BlobFetcher, over
from validator_node.errors import ConfigError
from validator_node.miner import LARGE_EVERY, Miner, MinerConfig
from validator_node.network.network import Network
from validator_node.queries import (
    RECEIPT_PROTOCOL,
    STATUS_PROTOCOL,
    NodeStatus,
    ReceiptReply,
)

LONG = 6000
CHALLENGE = "text_compression"


@pytest.fixture
def genesis() -> Genesis:
    """A network with one example challenge, which takes 8,192 bytes."""
    made = World().genesis
    challenge = replaced(
        made.challenges[0],
        challenge_id=CHALLENGE,
        policy=replaced(made.challenges[0].policy, max_input_bytes=8192),
    )
    return replaced(made, challenges=(challenge,))


def config(genesis: Genesis, folder: Path, **changes) -> MinerConfig:
    fields = {
        "seed": bytes(32),
        "genesis": genesis,
        "bootstrap": (),
        "skill": 0,
        "per_message": 1,
        "interval_s": 0.1,
        "listen_host": "127.0.0.1",
        "report": folder / "report.json",
    }
    return MinerConfig(**{**fields, **changes})


def test_every_fourth_body_is_filled_up_and_travels_by_hash(genesis: Genesis, tmp_path: Path):
    miner = Miner(config(genesis, tmp_path, body_bytes=LONG))
    made = [miner.make(CHALLENGE, 0) for _ in range(2 * LARGE_EVERY)]
    for number, (posted, body) in enumerate(made):
        posted.signed.verify(genesis.network_id)
        submission = posted.signed.submission
        assert (submission.body_hash, submission.body_size) == (sha256(body), len(body))
        assert posted.travels_by_hash == (number % LARGE_EVERY == 0)
        assert len(body) == LONG if posted.travels_by_hash else posted.body == body
        posted.check_body()
    assert len({posted.signed.submission.body_hash for posted, _ in made}) == len(made)


def test_without_the_option_every_body_travels_inline(genesis: Genesis, tmp_path: Path):
    miner = Miner(config(genesis, tmp_path))
    for _ in range(LARGE_EVERY + 1):
        posted, body = miner.make(CHALLENGE, 0)
        assert posted.body == body
        assert len(body) <= MAX_INLINE_BODY_BYTES


def test_bodies_that_no_challenge_takes_are_an_error(genesis: Genesis, tmp_path: Path):
    with pytest.raises(ConfigError, match="no challenge takes more than 8192 bytes"):
        Miner(config(genesis, tmp_path, body_bytes=8193))


class Answers:
    """What a validator says of submissions: `fetching`, until the test knows better."""

    def __init__(self, genesis: Genesis) -> None:
        self.states: dict[bytes, str] = {}
        self.asked_pending = trio.Event()
        self.busy: list[int] = []
        """What the next questions for the status are told to wait, in seconds."""
        self.refused: list[int] = []
        """The same of the next questions for a submission."""
        self._status = NodeStatus(
            network_id=genesis.network_id, epoch=0, height=0, chain_hash=bytes(32), view=0
        )

    def serve(self, validator: Network) -> None:
        for protocol, handler in (
            (STATUS_PROTOCOL, self._on_status),
            (RECEIPT_PROTOCOL, self._on_receipt),
        ):
            validator.serve(protocol, handler, max_request_bytes=64, deadline_s=5)

    async def _on_status(self, peer_id: str, request: bytes) -> bytes:
        wait_s = self.busy.pop() if self.busy else 0
        return encode(replaced(self._status, retry_after_s=wait_s))

    async def _on_receipt(self, peer_id: str, submission_id: bytes) -> bytes:
        if self.refused:
            wait_s = self.refused.pop()
            reply = ReceiptReply(state="refused", reason="busy", receipt=b"", retry_after_s=wait_s)
            return encode(reply)
        state = self.states.setdefault(submission_id, "fetching")
        if state == "pending":
            self.asked_pending.set()
        return encode(ReceiptReply(state=state, reason="", receipt=b""))


async def fetched(fetcher: BlobFetcher, submission: Submission, holder: str) -> bytes:
    return await fetcher.fetch(
        submission.body_hash,
        size=submission.body_size,
        holders=[holder],
        max_bytes=LONG,
        deadline_s=20,
    )


async def test_a_long_body_is_handed_out_until_nobody_waits_for_it(
    genesis: Genesis, tmp_path: Path
):
    """A validator hears of the submission, fetches the body from the miner, and admits it."""
    answers = Answers(genesis)
    async with nodes(1) as (validator,), trio.open_nursery() as nursery:
        answers.serve(validator)
        topic = submission_topic(genesis.network_id, CHALLENGE)
        messages = await validator.join(topic, lambda peer_id, data: True)
        fetcher = BlobFetcher(over(validator))
        miner = Miner(
            config(
                genesis,
                tmp_path,
                body_bytes=LONG,
                bootstrap=validator.addresses,
                interval_s=1000.0,
            )
        )
        stop = trio.Event()
        done = trio.Event()

        async def mine() -> None:
            await miner.run(stop)
            done.set()

        nursery.start_soon(mine)
        with trio.fail_after(30):
            message = await messages.receive()
            [posted] = decode(SubmissionMessage, message.data).posted
            submission = posted.signed.submission
            stop.set()  # it goes on handing out what is not taken
            body = await fetched(fetcher, submission, message.author)
            assert len(body) == LONG
            assert not done.is_set()
            answers.states[submission.submission_id] = "pending"
            await answers.asked_pending.wait()
            again = await fetched(fetcher, submission, message.author)
            assert again == body  # by a validator that did not admit it
            answers.states[submission.submission_id] = "ended"
            await done.wait()
        nursery.cancel_scope.cancel()
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["submitted"]) == [submission.submission_id.hex()]
    assert report["states"] == {"ended": 1}


async def test_a_miner_waits_as_long_as_it_is_told_and_publishes_again_what_was_refused(
    genesis: Genesis, tmp_path: Path
):
    answers = Answers(genesis)
    answers.busy = [1]
    answers.refused = [1]
    async with nodes(1) as (validator,), trio.open_nursery() as nursery:
        answers.serve(validator)
        topic = submission_topic(genesis.network_id, CHALLENGE)
        messages = await validator.join(topic, lambda peer_id, data: True)
        miner = Miner(config(genesis, tmp_path, bootstrap=validator.addresses, interval_s=0.05))
        stop = trio.Event()
        began = trio.current_time()
        nursery.start_soon(miner.run, stop)
        with trio.fail_after(60):
            published = [decode(SubmissionMessage, (await messages.receive()).data).posted]
            assert trio.current_time() - began >= 1
            published += [
                decode(SubmissionMessage, (await messages.receive()).data).posted for _ in range(2)
            ]
        nursery.cancel_scope.cancel()
    first, again, fresh = (posted[0].signed.submission_id for posted in published)
    assert first == again
    assert fresh != first
