"""Which of several records wins, and that what was checked is not checked again."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import World
from tests.validator_node.dht_support import Records
from validator_node.records import RecordBook, RecordError, book
from validator_node.records.rules import ContentRule


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_the_highest_checkpoint_wins_and_the_last_of_equals(
    records: Records, seqs: list[int]
) -> None:
    key, _ = records.checkpoint(0)
    values = [records.checkpoint(seq)[1] for seq in seqs]
    best = records.book().select(key, values)
    assert seqs[best] == max(seqs)
    assert max(seqs) not in seqs[best + 1 :]


def test_the_newest_node_record_wins(records: Records) -> None:
    key, old = records.node(sequence=1)
    _, new = records.node(sequence=2)
    judge = records.book()
    assert [judge.select(key, pair) for pair in ([old, new], [new, old], [new, new])] == [1, 0, 1]
    assert judge.newest_wins(key)


def test_where_one_is_as_good_as_another_the_last_wins(records: Records) -> None:
    key, value = records.blob()
    assert records.book().select(key, [value, value, value]) == 2
    assert not records.book().newest_wins(key)


def test_garbage_loses_against_everything(records: Records) -> None:
    key, value = records.checkpoint(0)
    assert records.book().select(key, [value, b"garbage"]) == 0


def test_nothing_to_select_from_is_an_error(records: Records) -> None:
    with pytest.raises(ValueError, match="no values"):
        records.book().select(records.blob()[0], [])
    with pytest.raises(RecordError):
        records.book().select("/pk/abc", [b"x"])


class Counting(ContentRule):
    def __init__(self) -> None:
        self.checks = 0

    def check(self, key: object, value: bytes) -> None:
        self.checks += 1
        super().check(key, value)  # type: ignore[arg-type]


def test_a_checked_record_is_remembered_until_forgotten(
    records: Records, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "MAX_CHECKED", 2)
    rule = Counting()
    judge = RecordBook(world.network_id, {"blob": rule})
    first, second, third = (records.blob(bytes([number])) for number in range(3))
    for record in (first, first, second, first):
        judge.check(*record)
    assert rule.checks == 2
    judge.check(*third)  # displaces the second
    judge.check(*first)
    assert rule.checks == 3
    judge.check(*second)
    assert rule.checks == 4
    judge.forget()
    judge.check(*second)
    assert rule.checks == 5


def test_a_refused_record_is_not_remembered(records: Records, world: World) -> None:
    rule = Counting()
    judge = RecordBook(world.network_id, {"blob": rule})
    key, _ = records.blob()
    for _ in range(2):
        with pytest.raises(RecordError):
            judge.check(key, b"other")
    assert rule.checks == 2
