"""What we ask for, who promised it, and what a peer is sent again."""

from __future__ import annotations

from validator_node.network.gossip_control import (
    ASKED_S,
    DISTRUST_S,
    PROMISE_S,
    REPEATS,
    RESENT_BYTES,
    Promises,
    Resent,
)

IDS = [b"1", b"2", b"3"]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_everybody_who_offers_a_message_is_asked() -> None:
    promises = Promises(Clock())
    assert promises.ask("a", [*IDS, b"1"]) == IDS
    assert promises.ask("b", IDS) == IDS


def test_who_does_not_send_what_it_offered_is_named_once_and_trusted_less() -> None:
    clock = Clock()
    promises = Promises(clock)
    promises.ask("liar", IDS)
    clock.now += PROMISE_S - 1
    assert promises.on_beat() == set()
    clock.now += 1
    assert promises.on_beat() == {"liar"}
    assert promises.on_beat() == set()
    assert promises.ask("honest", IDS) == IDS
    assert promises.ask("liar", [*IDS, b"4"]) == [b"4"]
    clock.now += ASKED_S
    assert promises.ask("liar", IDS) == IDS
    clock.now += DISTRUST_S
    promises.ask("honest", IDS)
    assert promises.ask("liar", IDS) == IDS


def test_a_message_that_came_from_elsewhere_is_owed_by_nobody() -> None:
    clock = Clock()
    promises = Promises(clock)
    promises.ask("slow", IDS)
    for message_id in IDS:
        promises.on_received(message_id)
    clock.now += PROMISE_S
    assert promises.on_beat() == set()


def test_a_message_is_sent_again_a_few_times_and_a_few_bytes_a_heartbeat() -> None:
    resent = Resent()
    assert [resent.grant("a", b"1", 10) for _ in range(REPEATS + 1)] == [True] * REPEATS + [False]
    assert resent.grant("b", b"1", 10)
    assert not resent.grant("b", b"2", RESENT_BYTES)
    resent.on_beat(lambda _: True)
    assert resent.grant("b", b"2", RESENT_BYTES)
    assert not resent.grant("a", b"1", 10)
    resent.on_beat(lambda _: False)
    assert resent.grant("a", b"1", 10)
