"""What a node tells of a challenge."""

from __future__ import annotations

import pytest

from protocol.codec import decode, digest_of, encode, sha256
from protocol.records.canary import CanaryItem
from registry.keys import Report
from tests.support import OWNER, World, make_challenge, replaced
from validator_node.owner.pool import RegistryPool
from validator_node.owner.queries import RegistryQueries, RegistryQuery, RegistryReply
from validator_node.store import Store

WANTED = make_challenge("alpha", version=2)


@pytest.fixture
def pool(store: Store) -> RegistryPool:
    return RegistryPool(store)


def ask(store: Store, pool: RegistryPool, challenge_id: str, change: bytes) -> RegistryReply:
    query = RegistryQuery(challenge_id=challenge_id, change=change)
    assert decode(RegistryQuery, encode(query)) == query
    reply = RegistryQueries(store, pool).reply(query)
    assert decode(RegistryReply, encode(reply)) == reply
    return reply


def test_a_change_can_be_followed(world: World, store: Store, pool: RegistryPool) -> None:
    change = world.change(1, WANTED)
    digest = digest_of(change.content)
    reply = ask(store, pool, "alpha", digest)
    assert (reply.network_id, reply.owner) == (world.network_id, OWNER.public_key)
    assert (reply.sequence, reply.height, reply.validators) == (0, 0, 4)
    assert (reply.state, reply.reason) == ("unknown", "")
    assert reply.active == make_challenge("alpha", emission=3)
    pool.check(encode(change))
    assert ask(store, pool, "alpha", digest).state == "held"

    world.decide(store, change)
    pool.on_executed()
    reply = ask(store, pool, "alpha", digest)
    assert (reply.sequence, reply.height, reply.state) == (1, 1, "unknown")
    assert reply.candidate is not None
    assert (reply.candidate.challenge, reply.candidate.seq) == (WANTED, 1)
    assert reply.decision is None

    item = CanaryItem(challenge=digest_of(WANTED), results=sha256(b"results"), failure="")
    bad = replaced(item, results=bytes(32), failure="first: trap, expected ok")
    world.decide(store, world.statement(3, bad), *(world.statement(n, item) for n in range(3)))
    reply = ask(store, pool, "alpha", digest)
    assert (reply.active, reply.candidate) == (WANTED, None)
    assert reply.decision is not None
    assert (reply.decision.version, reply.decision.reason) == (2, "")
    assert reply.decision.reports[0] == Report(
        hotkey=world.hotkeys[3].public_key, results=bytes(32), failure=bad.failure
    )


def test_why_a_change_was_refused_is_told(world: World, store: Store, pool: RegistryPool) -> None:
    change = world.change(1, replaced(WANTED, version=1))
    pool.check(encode(change))
    reply = ask(store, pool, "alpha", digest_of(change.content))
    assert (reply.state, reply.reason) == ("refused", "version")


def test_a_challenge_that_nobody_knows_has_nothing(store: Store, pool: RegistryPool) -> None:
    reply = ask(store, pool, "nobody", bytes(32))
    assert (reply.active, reply.candidate, reply.decision) == (None, None, None)
