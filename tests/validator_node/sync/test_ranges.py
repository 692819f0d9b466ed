"""Which part of the log is asked of whom."""

from __future__ import annotations

from consensus.messages import DecidedSlot
from protocol.codec import sha256
from tests.consensus.builders import make_batch, make_header, replaced
from tests.validator_node.sync.test_trust import SETS
from validator_node.sync.ranges import AHEAD, HEDGE_S, MAX_WAITING_BYTES, SPAN, Ranges

BATCH = make_batch("x")
CERTIFICATE = SETS[0].certificate(make_header("x", 1, sha256(b"parent"), 0))


def slots(first: int, count: int) -> list[DecidedSlot]:
    header = CERTIFICATE.header
    return [
        DecidedSlot(
            batch=BATCH,
            certificate=replaced(CERTIFICATE, header=replaced(header, seq=seq)),
        )
        for seq in range(first, first + count)
    ]


def seqs(taken) -> list[int]:
    return [slot.certificate.header.seq for slot in taken]


def test_sources_get_disjoint_spans_and_what_comes_is_taken_in_order():
    ranges = Ranges(1)
    asked = [ranges.ask(name, 1, 10_000, 0.0) for name in "abc"]
    assert asked == [1, 1 + SPAN, 1 + 2 * SPAN]
    ranges.put("b", slots(1 + SPAN, SPAN), 100)
    assert ranges.take() == ()  # the first span is not here
    ranges.put("a", slots(1, SPAN), 100)
    assert seqs(ranges.take()) == list(range(1, 1 + SPAN))
    assert seqs(ranges.take()) == list(range(1 + SPAN, 1 + 2 * SPAN))
    assert ranges.waiting_bytes == 0


def test_a_partial_reply_is_gone_on_from():
    ranges = Ranges(1)
    assert ranges.ask("a", 1, 10_000, 0.0) == 1
    assert ranges.put("a", slots(1, 10), 100) == 10
    assert ranges.ask("b", 1, 10_000, 0.0) == 11


def test_the_first_span_is_asked_of_another_one_when_its_source_is_slow():
    ranges = Ranges(1)
    assert ranges.ask("slow", 1, SPAN, 0.0) == 1
    assert ranges.ask("fast", 1, SPAN, HEDGE_S / 2) is None
    assert ranges.ask("slow", 1, SPAN, HEDGE_S) is None
    assert ranges.ask("fast", 1, SPAN, HEDGE_S) == 1
    assert ranges.put("fast", slots(1, SPAN), 100) == SPAN
    assert ranges.put("slow", slots(1, SPAN), 100) == 0  # too late, and taken once
    assert len(ranges.take()) == SPAN


def test_nobody_is_asked_for_what_it_does_not_hold():
    ranges = Ranges(100)
    assert ranges.ask("a", 101, 300, 0.0) is None
    assert ranges.ask("b", 1, 99, 0.0) is None
    assert not ranges.needs(99)
    assert ranges.needs(100)


def test_the_window_is_bounded_and_moves_with_what_is_taken():
    ranges = Ranges(1)
    far = 1_000_000
    firsts = []
    while (first := ranges.ask(f"s{len(firsts)}", 1, far, 0.0)) is not None:
        firsts.append(first)
    assert firsts == [1 + i * SPAN for i in range(AHEAD)]
    for number, first in enumerate(firsts):
        ranges.put(f"s{number}", slots(first, SPAN), 100)
    assert ranges.ask("x", 1, far, 0.0) is None
    assert ranges.needs(far)  # there is more, when what is here has been executed
    ranges.take()
    assert ranges.ask("x", 1, far, 0.0) == 1 + AHEAD * SPAN


def test_when_too_many_bytes_wait_only_the_first_span_is_asked_for():
    ranges = Ranges(1)
    assert [ranges.ask(name, 1, 10_000, 0.0) for name in "ab"] == [1, 1 + SPAN]
    ranges.put("b", slots(1 + SPAN, SPAN), MAX_WAITING_BYTES + SPAN)
    assert ranges.ask("b", 1, 10_000, 0.0) is None
    ranges.release("a")
    assert ranges.ask("b", 1, 10_000, 0.0) == 1
