from __future__ import annotations

from validator_node.conduct import BAN_S, HOSTILE, LEAK_PER_S, LIMIT, Conduct


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_hostile_messages_beyond_the_limit_ban_their_sender() -> None:
    clock = Clock()
    conduct = Conduct(clock)
    for _ in range(int(LIMIT)):
        assert not conduct.note("hostile", "bad_signature")
    assert not conduct.is_banned("hostile")
    assert conduct.note("hostile", "bad_signature")
    assert conduct.is_banned("hostile")
    assert not conduct.is_banned("other")


def test_a_ban_ends() -> None:
    clock = Clock()
    conduct = Conduct(clock)
    while not conduct.note("hostile", "malformed"):
        pass
    clock.now += BAN_S - 1
    assert conduct.is_banned("hostile")
    clock.now += 1
    assert not conduct.is_banned("hostile")
    assert not conduct.note("hostile", "malformed")  # it begins anew


def test_what_honest_peers_repeat_costs_next_to_nothing() -> None:
    conduct = Conduct(Clock())
    for reason in ("stale", "duplicate", "other_view", "gap", "past_quorum"):
        assert reason not in HOSTILE
        assert not any(conduct.note("straggler", reason) for _ in range(10_000))


def test_costs_leak_away() -> None:
    clock = Clock()
    conduct = Conduct(clock)
    for _ in range(3):
        for _ in range(int(LIMIT)):
            assert not conduct.note("clumsy", "malformed")
        clock.now += LIMIT / LEAK_PER_S
    assert not conduct.is_banned("clumsy")
