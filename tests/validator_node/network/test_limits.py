"""The budgets by themselves: arithmetic, connections, streams, buffered bytes."""

from dataclasses import replace
from typing import Any

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from validator_node.network.counters import Counters
from validator_node.network.limits import (
    MIB,
    Gate,
    Limits,
    Rate,
    frames_of,
    held_by,
)
from validator_node.network.scores import Scores


def gate(**limits: Any) -> Gate:
    counters = Counters()
    return Gate(Limits(**limits), Scores(lambda: 0.0, counters), counters)


@given(
    st.floats(1, 1e6),
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1e6)), max_size=50),
)
def test_a_rate_never_grants_more_than_its_burst_and_its_time(
    per_second: float, asked: list[tuple[float, float]]
) -> None:
    now = granted = 0.0
    rate = Rate(per_second, lambda: now)
    for pause, cost in asked:
        now += pause
        granted += cost if rate.spend(cost) else 0
        assert granted <= per_second * (2 + now) * (1 + 1e-9) + 1e-6


def test_what_is_owed_takes_its_time() -> None:
    now = 0.0
    rate = Rate(10.0, lambda: now)
    assert rate.owe(20) == 0
    assert rate.owe(5) == 0.5
    now = 0.5
    assert rate.owe(0) == 0


async def test_streams_are_bounded_by_number_and_rate(
    autojump_clock: trio.testing.MockClock,
) -> None:
    streams = gate(streams_per_peer=3, streams_per_s=5.0)
    assert [streams.begin_stream("peer") for _ in range(4)] == [True, True, True, False]
    assert streams.begin_stream("other")
    for _ in range(3):
        streams.end_stream("peer")
    granted = 0
    while streams.begin_stream("peer"):
        streams.end_stream("peer")
        granted += 1
    assert granted == 7  # of a burst of ten
    await trio.sleep(1)
    assert streams.begin_stream("peer")
    assert streams.counters["refused", "streams_per_peer"] == 1
    assert streams.counters["refused", "stream_rate"] == 1
    assert streams.scores.level("peer") > 0


class Connection:
    """The buffers of a Yamux connection."""

    def __init__(self, peer_id: str, *sizes: int) -> None:
        self.peer_id = peer_id
        self.stream_buffers = {number: bytearray(size) for number, size in enumerate(sizes)}

    def note(self, noting: Gate) -> Any:
        return noting.note_buffered(self, held_by(self))


def test_who_holds_too_much_unread_is_closed_and_charged() -> None:
    buffers = gate(buffered_per_connection=100, buffered_total=250)
    greedy = Connection("greedy", 60, 41)
    assert greedy.note(buffers) is greedy
    assert buffers.scores.level("greedy") > 0
    assert buffers.buffered_bytes == 0
    quick, slow, last = Connection("quick", 100), Connection("slow", 90), Connection("last", 80)
    assert quick.note(buffers) is None
    assert slow.note(buffers) is None
    quick.stream_buffers[0].clear()  # it has read since
    assert last.note(buffers) is None
    assert buffers.buffered_bytes == 170
    quick.stream_buffers[0].extend(bytes(95))
    assert quick.note(buffers) is quick  # of all, it holds most
    buffers.drop_buffered(slow)
    assert buffers.buffered_bytes == 80


def test_unfinished_frames_count_as_unread() -> None:
    connection = Connection("peer", 10)
    frames_of(connection)[1] = bytearray(7)
    assert held_by(connection) == 17


def test_the_memory_bound_follows_from_the_limits() -> None:
    bound = Limits().memory_bound_bytes()
    assert 400 * MIB < bound < 576 * MIB
    more = replace(Limits(), buffered_total=Limits().buffered_total + MIB)
    assert more.memory_bound_bytes() == bound + MIB
    assert Limits().memory_bound_bytes(message_bytes=4096) < bound
