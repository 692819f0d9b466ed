"""When a statement that nobody has ordered is said again."""

from __future__ import annotations

from itertools import pairwise

from protocol.codec import encode, sha256
from protocol.records.batch import Batch
from protocol.records.statement import Statement
from tests.makers import make_verdict
from tests.support import World
from validator_node.relay import LOOK_S, MAX_WAIT_S, RELAY_BYTES, Relay
from validator_node.statements import StatementPool

WORLD = World()
ME, OTHER = 0, 1
PATIENCE_S = 2.0


def say(signer: int, counter: int, items: int = 1) -> Statement:
    verdicts = [make_verdict(sha256(b"%d" % n)) for n in range(items)]
    return WORLD.statement(signer, *verdicts, counter=counter)


class Site:
    """A pool, and what is said again at each look in the seconds that pass."""

    def __init__(self, *statements: Statement) -> None:
        self.pool = StatementPool(4)
        for statement in statements:
            assert self.pool.add(statement)
        self.relay = Relay(self.pool)
        self.now = 0.0

    def times(self, for_s: float, in_flight: tuple[Batch, ...] = ()) -> dict[int, list[float]]:
        """Return signer -> when it was said again."""
        found: dict[int, list[float]] = {}
        end = self.now + for_s
        while self.now < end:
            for statement in self.relay.due(in_flight, ME, self.now, PATIENCE_S):
                found.setdefault(statement.header.signer, []).append(self.now)
            self.now += LOOK_S
        return found


def test_ones_own_comes_first_and_each_time_is_later() -> None:
    found = Site(say(ME, 1), say(OTHER, 1)).times(29)
    assert found == {ME: [2.0, 6.0, 14.0], OTHER: [4.0, 12.0, 28.0]}


def test_the_waits_are_bounded() -> None:
    times = Site(say(ME, 1)).times(300)[ME]
    assert max(b - a for a, b in pairwise(times)) == MAX_WAIT_S


def test_what_is_in_a_proposal_or_behind_a_gap_is_not_said_again() -> None:
    proposed = Batch(state_root=bytes(32), actions=(say(ME, 1),))
    assert Site(say(ME, 1), say(OTHER, 2)).times(20, (proposed,)) == {}


def test_what_is_executed_is_forgotten() -> None:
    site = Site(say(ME, 1))
    assert site.times(3) == {ME: [2.0]}
    site.pool.mark_executed(ME, 1)
    assert site.times(20) == {}
    assert site.relay._waiting == {}


def test_a_backlog_is_not_sent_around_at_once() -> None:
    site = Site(*[say(ME, counter, items=200) for counter in range(1, 33)])
    site.relay.due((), ME, 0.0, PATIENCE_S)
    chosen = site.relay.due((), ME, PATIENCE_S, PATIENCE_S)
    longest = max(len(encode(statement)) for statement in chosen)
    assert sum(len(encode(statement)) for statement in chosen) >= RELAY_BYTES
    assert sum(len(encode(statement)) for statement in chosen) < RELAY_BYTES + longest
    assert site.relay.due((), ME, PATIENCE_S, PATIENCE_S) == []
    rest = site.relay.due((), ME, PATIENCE_S + LOOK_S, PATIENCE_S)
    assert rest[0].header.counter == chosen[-1].header.counter + 1


def test_a_link_that_opens_gets_what_comes_first() -> None:
    site = Site(*[say(signer, n, items=200) for signer in (ME, OTHER) for n in range(1, 33)])
    first = site.relay.first(())
    assert [statement.header.counter for statement in first[:4]] == [1, 1, 2, 2]
    assert sum(len(encode(statement)) for statement in first) <= RELAY_BYTES
