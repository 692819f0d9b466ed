"""Submissions reach a challenge that was activated while the node ran, over real gossip."""

from __future__ import annotations

import trio

from protocol.codec import digest_of, encode, sha256
from protocol.records.canary import CanaryItem
from protocol.records.submission import SubmissionMessage, submission_topic
from tests.support import World, make_challenge
from tests.validator_node.network.support import nodes
from tests.validator_node.test_intake import Site
from validator_node.store import Store
from validator_node.topics import SubmissionTopics

WAIT_S = 30


def activate(world: World, store: Store, name: str) -> None:
    challenge = make_challenge(name)
    report = CanaryItem(challenge=digest_of(challenge), results=sha256(b"results"), failure="")
    said = [world.statement(signer, report) for signer in range(3)]
    assert len(world.decide(store, world.change(1, challenge), *said).decided) == 1


async def test_a_challenge_activated_later_gets_its_topic(world: World, store: Store) -> None:
    site = Site(world, store)
    gamma = submission_topic(world.network_id, "gamma")
    posted = world.posted(b"for gamma", challenge_id="gamma")
    async with nodes(2) as (node, miner), trio.open_nursery() as nursery:
        topics = SubmissionTopics(node, site.intake)
        nursery.start_soon(topics.run)
        with trio.fail_after(WAIT_S):
            await miner.wait_subscriber(site.topic, 1)
        assert gamma not in topics.joined
        activate(world, store, "gamma")
        topics.reconsider()
        topics.reconsider()
        with trio.fail_after(WAIT_S):
            await miner.wait_subscriber(gamma, 1)
            await miner.publish(gamma, encode(SubmissionMessage(posted=(posted,))))
            while not site.intake.accepted:  # noqa: ASYNC110 - the intake gives no event
                await trio.sleep(0.01)
        assert site.intake.is_waiting(posted.signed.submission.submission_id)
        assert len(topics.joined) == 3
        nursery.cancel_scope.cancel()
