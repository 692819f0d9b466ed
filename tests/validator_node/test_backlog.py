"""What a node takes in beside what is open, and when it tells miners to come again."""

from __future__ import annotations

import pytest

from validator_node.backlog import AGAIN_AT_MOST_S, CREDIT, WITHIN_S, Backlog


class Network:
    """Submissions come and end at chosen rates a second."""

    def __init__(self) -> None:
        self.now = 0.0
        self.open = 0
        self.busy: list[int] = []
        self.backlog = Backlog(lambda: self.now, lambda: self.open)

    def run(self, seconds: int, *, come: int, end: int) -> None:
        for _ in range(seconds):
            for _ in range(come):
                wait_s = self.backlog.retry_after_s()
                if wait_s:
                    self.busy.append(wait_s)
                else:
                    self.open += 1
            self.now += 1
            ended = min(end, self.open)
            self.open -= ended
            self.backlog.note_ended(ended)


@pytest.fixture
def network() -> Network:
    return Network()


def test_an_idle_network_takes_a_burst_on_credit(network: Network) -> None:
    network.run(100, come=1, end=10)
    network.run(1, come=CREDIT, end=0)
    assert network.busy == []
    network.run(1, come=1, end=0)
    assert len(network.busy) == 1


def test_under_twice_the_rate_what_is_open_can_be_settled_in_time(network: Network) -> None:
    network.run(120, come=200, end=100)
    assert network.open <= 100 * WITHIN_S
    assert network.busy
    assert all(1 <= wait_s <= AGAIN_AT_MOST_S for wait_s in network.busy)
    network.run(30, come=0, end=100)
    assert network.open == 0
    assert network.backlog.retry_after_s() == 0


def test_below_the_rate_nothing_is_refused(network: Network) -> None:
    network.run(120, come=90, end=100)
    assert network.busy == []


def test_a_network_that_stands_still_takes_in_no_more(network: Network) -> None:
    network.run(20, come=100, end=100)
    network.run(60, come=100, end=0)
    assert network.open == CREDIT
    assert network.busy[-1] > CREDIT / 10


def test_a_group_is_refused_where_one_would_be_taken(network: Network) -> None:
    network.open = CREDIT - 2
    assert network.backlog.retry_after_s(2) == 0
    assert network.backlog.retry_after_s(3) > 0
