from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import ZERO_DIGEST, encode, sha256
from protocol.records.batch import MAX_BATCH_BYTES, MAX_BATCH_ITEMS, Batch
from protocol.records.statement import Statement
from tests.support import START_MS, World, make_verdict
from validator_node.statements import MAX_WAITING, StatementPool

WORLD = World()
VERDICT = make_verdict(sha256(b"submission"))


def say(signer: int, counter: int, *, at: int = 0, items: int = 1, text: bytes = b"") -> Statement:
    verdicts = [VERDICT] * (items - 1)
    item = make_verdict(sha256(text)) if text else VERDICT
    return WORLD.statement(signer, item, *verdicts, counter=counter, clock_ms=START_MS + at)


def pool_of(*statements: Statement) -> StatementPool:
    pool = StatementPool(4)
    for statement in statements:
        assert pool.add(statement)
    return pool


def places(actions: list) -> list[tuple[int, int]]:
    return [(action.header.signer, action.header.counter) for action in actions]


def batch(*statements: Statement) -> Batch:
    return Batch(state_root=ZERO_DIGEST, actions=statements)


def test_of_two_statements_with_one_counter_the_first_stays() -> None:
    pool = pool_of(say(0, 1))
    assert not pool.add(say(0, 1, text=b"other"))
    assert pool.waiting() == [say(0, 1)]
    assert len(pool) == 1
    assert pool.knows(0, 1)
    assert not pool.knows(0, 2)
    assert not pool.knows(1, 1)


def test_what_is_executed_is_forgotten_and_not_taken_again() -> None:
    pool = pool_of(say(0, 1), say(0, 2), say(0, 3), say(1, 1))
    pool.mark_executed(0, 2)
    assert places(pool.waiting()) == [(0, 3), (1, 1)]
    assert (pool.executed(0), pool.executed(1)) == (2, 0)
    assert pool.knows(0, 1)
    assert not pool.add(say(0, 2))
    pool.mark_executed(0, 1)
    assert pool.executed(0) == 2


def test_at_most_so_many_wait_for_each_signer() -> None:
    pool = StatementPool(4)
    assert pool.wants(0, MAX_WAITING)
    assert not pool.wants(0, MAX_WAITING + 1)
    assert not pool.add(say(0, MAX_WAITING + 1))
    pool.mark_executed(0, 1)
    assert pool.add(say(0, MAX_WAITING + 1))
    assert not pool.wants(1, MAX_WAITING + 1)


def test_a_batch_takes_what_follows_without_a_gap() -> None:
    pool = pool_of(say(0, 1), say(0, 2), say(0, 4), say(1, 2))
    assert places(pool.take([])) == [(0, 1), (0, 2)]
    pool.mark_executed(1, 1)
    assert sorted(places(pool.take([]))) == [(0, 1), (0, 2), (1, 2)]
    assert len(pool) == 4


def test_a_batch_continues_what_is_in_flight() -> None:
    pool = pool_of(say(0, 1), say(0, 2), say(1, 1))
    in_flight = [batch(say(0, 1)), batch(say(1, 1))]
    assert pool.next_counters(in_flight) == [2, 2, 1, 1]
    assert places(pool.take(in_flight)) == [(0, 2)]
    assert pool.has_next(in_flight)
    assert not pool.has_next([*in_flight, batch(say(0, 2))])


def test_a_statement_in_flight_out_of_order_does_not_count() -> None:
    """It will be a no-op, so the counter before it is still the one to continue with."""
    pool = pool_of(say(0, 1))
    assert pool.next_counters([batch(say(0, 2))]) == [1, 1, 1, 1]
    assert places(pool.take([batch(say(0, 2))])) == [(0, 1)]


def test_nothing_ready_means_nothing_next() -> None:
    pool = pool_of(say(0, 2))
    assert not pool.has_next([])
    assert pool.take([]) == []
    assert pool.add(say(0, 1))
    assert pool.has_next([])


def test_the_signers_take_turns() -> None:
    pool = pool_of(say(0, 1), say(0, 2), say(0, 3), say(1, 1), say(1, 2), say(2, 1))
    assert places(pool.take([])) == [(0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (0, 3)]


def test_turns_go_on_from_batch_to_batch() -> None:
    pool = pool_of(*[say(signer, n, items=256) for signer in range(3) for n in range(1, 5)])
    in_flight: list[Batch] = []
    for expected in ([0, 1, 2, 0], [1, 2, 0, 1], [2, 0, 1, 2]):
        taken = pool.take(in_flight)
        assert [signer for signer, _ in places(taken)] == expected
        in_flight.append(batch(*taken))
    assert pool.take(in_flight) == []


def test_an_early_clock_crowds_out_nobody() -> None:
    greedy = [say(2, n, at=-START_MS, items=256) for n in range(1, 21)]
    pool = pool_of(*greedy, say(0, 1), say(1, 1), say(3, 1))
    taken = places(pool.take([]))
    assert {(0, 1), (1, 1), (3, 1)} <= set(taken)


def test_what_does_not_fit_stops_nobody_else_and_comes_first_next_time() -> None:
    long = [say(3, n, items=256) for n in range(1, 6)]
    pool = pool_of(say(0, 1), say(1, 1), say(1, 2), say(1, 3), *long)
    first = pool.take([])
    assert places(first) == [(0, 1), (1, 1), (3, 1), (1, 2), (3, 2), (1, 3), (3, 3)]
    pool.add(say(0, 2))
    assert places(pool.take([batch(*first)])) == [(3, 4), (0, 2), (3, 5)]
    pool = pool_of(long[0], say(1, 1))
    little_room = MAX_BATCH_BYTES - len(encode(long[0]))
    assert places(pool.take([], little_room)) == [(1, 1)]
    assert places(pool.take([])) == [(3, 1), (1, 1)]


def test_an_oversize_statement_does_not_end_all_ordering() -> None:
    """The pool does not judge: even what could never be ordered blocks its own signer only."""
    body = {"challenge_id": "a" * 64, "expiry_epoch": 2**62}
    huge = WORLD.statement(0, *[WORLD.signed(**body)] * 1020, counter=1)
    assert len(encode(huge)) > MAX_BATCH_BYTES
    pool = pool_of(huge, say(1, 1), say(2, 1))
    for _ in range(3):
        assert sorted(places(pool.take([]))) == [(1, 1), (2, 1)]


def test_what_could_be_ordered_comes_of_each_signer_in_turn() -> None:
    pool = pool_of(*[say(0, n) for n in range(1, 4)], say(1, 1), say(2, 2), say(3, 1), say(3, 3))
    every = [(0, 1), (1, 1), (3, 1), (0, 2), (0, 3)]
    assert places(pool.in_order([])) == every
    assert places(pool.in_order([batch(say(0, 1), say(1, 1))])) == [(0, 2), (3, 1), (0, 3)]
    pool.mark_executed(2, 1)
    assert (2, 2) in places(pool.in_order([]))


# --- admissions ----------------------------------------------------------------------------------


def asking(signer: int, counter: int, *bodies: bytes) -> Statement:
    return WORLD.statement(signer, *map(WORLD.signed, bodies), counter=counter)


ASKED = WORLD.signed(b"one").submission_id


def test_an_admission_is_asked_for_while_its_statement_could_be_ordered() -> None:
    pool = pool_of(asking(0, 1, b"one", b"two"), asking(1, 1, b"one"))
    assert pool.asks_for(ASKED)
    pool.mark_executed(0, 1)
    assert pool.asks_for(ASKED)
    assert not pool.asks_for(WORLD.signed(b"two").submission_id)
    pool.mark_executed(1, 1)
    assert not pool.asks_for(ASKED)
    assert pool._admissions == {}


def test_an_admission_behind_a_gap_is_nobodys_word() -> None:
    """Its signer may hold back what comes before for ever."""
    pool = pool_of(asking(0, 2, b"one"))
    assert not pool.asks_for(ASKED)
    pool.add(say(0, 1))
    assert pool.asks_for(ASKED)
    pool.begin_epoch(4)
    assert not pool.asks_for(ASKED)


def test_only_what_is_executed_in_order_counts() -> None:
    pool = pool_of(say(0, 1), say(0, 2))
    pool.execute(say(0, 2).header)
    assert pool.executed(0) == 0
    pool.execute(say(0, 1).header)
    assert (pool.executed(0), places(pool.waiting())) == (1, [(0, 2)])


def test_a_batch_holds_a_bounded_number_of_items() -> None:
    pool = pool_of(*[say(0, counter, items=256) for counter in range(1, 6)])
    taken = pool.take([])
    assert places(taken) == [(0, 1), (0, 2), (0, 3), (0, 4)]
    assert sum(len(statement.items) for statement in taken) == MAX_BATCH_ITEMS


@pytest.mark.parametrize("items", [100, 256])
def test_a_batch_is_within_its_bytes(items: int) -> None:
    admissions = [WORLD.signed(bytes([n, items % 256])) for n in range(items)]
    statements = [
        WORLD.statement(signer, *admissions, counter=counter)
        for signer in range(4)
        for counter in range(1, 4)
    ]
    pool = pool_of(*statements)
    full = Batch(state_root=ZERO_DIGEST, actions=tuple(pool.take([])))
    assert 0 < len(full.actions) < len(statements)
    assert MAX_BATCH_BYTES // 2 < len(encode(full)) <= MAX_BATCH_BYTES


def test_room_is_left_for_one_action_besides() -> None:
    pool = pool_of(*[say(0, counter, items=256) for counter in range(1, 6)])
    assert len(pool.take([], 200_000)) == 2
    assert places(pool.take([], 1)) == [(0, 1), (0, 2), (0, 3)]
    assert pool.take([], MAX_BATCH_BYTES) == []


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=20), st.data())
def test_batch_after_batch_everything_is_taken_once_and_in_order(
    spoken: list[tuple[int, int]], data: st.DataObject
) -> None:
    pool = StatementPool(4)
    for signer, counter in spoken:
        pool.add(say(signer, counter))
    in_flight: list[Batch] = []
    while pool.has_next(in_flight):
        in_flight.append(batch(*pool.take(in_flight)))
    taken = [place for one in in_flight for place in places(list(one.actions))]
    for signer in range(4):
        counters = [counter for who, counter in taken if who == signer]
        reachable = 0
        while (signer, reachable + 1) in spoken:
            reachable += 1
        assert counters == list(range(1, reachable + 1))


def test_a_new_epoch_begins_with_nothing() -> None:
    pool = pool_of(say(0, 1), say(0, 2))
    pool.mark_executed(0, 1)
    pool.begin_epoch(2)
    assert (len(pool), pool.executed(0)) == (0, 0)
    assert pool.add(say(0, 1))
    assert places(pool.take([])) == [(0, 1)]
    assert pool.next_counters([]) == [1, 1]
