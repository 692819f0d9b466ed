from __future__ import annotations

import pytest
import trio

from protocol.codec import decode, encode
from protocol.records.result import Receipt
from protocol.records.submission import SubmissionMessage, submission_topic
from tests.support import World, make_verdict
from tests.validator_node.network.support import nodes
from validator_node.batch_check import Checker
from validator_node.intake import Intake
from validator_node.network.gossip import CheckAnswer
from validator_node.queries import (
    RECEIPT_PROTOCOL,
    STATUS_PROTOCOL,
    NodeStatus,
    QueryService,
    ReceiptReply,
)
from validator_node.speaker import Speaker
from validator_node.store import Store


async def _say_nothing(statement) -> None:
    raise AssertionError("nothing is said here")


@pytest.fixture
def intake(world: World, store: Store) -> Intake:
    speaker = Speaker(
        world.voters,
        0,
        world.keys[0],
        say=_say_nothing,
        executed_counter=lambda: 0,
        is_settled=lambda item: False,
        clock_ms=lambda: 0,
        first_counter=1,
    )
    return Intake(
        store,
        Checker(world.voters, world.network_id),
        speaker,
        me=0,
        now=lambda: 0.0,
        submissions_per_second=100,
        max_pending=100,
    )


@pytest.fixture
def queries(store: Store, intake: Intake) -> QueryService:
    return QueryService(store, intake)


def test_a_miner_can_follow_its_submission(
    world: World, store: Store, intake: Intake, queries: QueryService
) -> None:
    posted = world.posted(b"a body")
    submission_id = posted.signed.submission.submission_id
    seen = []

    def look() -> ReceiptReply:
        reply = queries.reply(submission_id)
        assert decode(ReceiptReply, encode(reply)) == reply
        assert reply.reason == ""
        seen.append(reply.state)
        return reply

    look()
    topic = submission_topic(world.network_id, "alpha")
    assert intake.check(topic, encode(SubmissionMessage(posted=(posted,))), "peer")
    look()
    world.decide(store, world.statement(0, posted.signed))
    intake.on_executed([submission_id], [])
    look()
    verdict = make_verdict(submission_id)
    world.decide(store, *[world.statement(signer, verdict) for signer in range(3)])
    look()
    world.decide(store)
    assert look().receipt == b""
    world.decide(store)
    assert decode(Receipt, look().receipt) == store.receipt(submission_id)
    assert seen == ["unknown", "waiting", "pending", "uncertified", "uncertified", "ended"]


def test_a_miner_is_told_why_it_was_refused(
    world: World, intake: Intake, queries: QueryService
) -> None:
    posted = world.posted(b"a body", challenge_version=9)
    topic = submission_topic(world.network_id, "alpha")
    answer = intake.check(topic, encode(SubmissionMessage(posted=(posted,))), "peer")
    assert answer is CheckAnswer.USELESS
    reply = queries.reply(posted.signed.submission.submission_id)
    assert (reply.state, reply.reason, reply.receipt) == ("refused", "other_version", b"")


@pytest.mark.parametrize("submission_id", [b"", bytes(31), bytes(33), bytes(32)])
def test_what_is_no_id_is_unknown(queries: QueryService, submission_id: bytes) -> None:
    assert queries.reply(submission_id).state == "unknown"


async def test_anybody_can_ask_over_the_network(
    world: World, store: Store, queries: QueryService
) -> None:
    posted = world.posted(b"a body")
    world.decide(store, world.statement(0, posted.signed))
    queries.view = 3
    async with nodes(2) as (client, server):
        queries.serve(server)

        async def ask(protocol: str, request: bytes) -> bytes:
            with trio.fail_after(10):
                return await client.request(
                    server.peer_id, protocol, request, deadline_s=5, max_reply_bytes=65_536
                )

        status = decode(NodeStatus, await ask(STATUS_PROTOCOL, b""))
        reply = await ask(RECEIPT_PROTOCOL, posted.signed.submission.submission_id)
    assert status == NodeStatus(
        network_id=world.network_id, epoch=0, height=1, chain_hash=store.chain_hash, view=3
    )
    assert decode(ReceiptReply, reply).state == "pending"
