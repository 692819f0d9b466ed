from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support import World
from validator_node.waiting import WaitingQueue

WORLD = World()
SUBMISSIONS = [WORLD.signed(b"%d" % number, miner=number % 3) for number in range(9)]

STEP = st.tuples(
    st.sampled_from(["add", "remove", "postpone"]), st.integers(0, 8), st.integers(0, 5)
)


@given(st.lists(STEP, max_size=40), st.integers(0, 5))
def test_the_queue_keeps_each_hotkeys_order(steps: list[tuple[str, int, int]], now: int) -> None:
    queue = WaitingQueue()
    model: dict[int, int] = {}
    for what, number, due in steps:
        signed = SUBMISSIONS[number]
        if what == "add":
            queue.add(signed, 0, due)
            model[number] = due
        elif what == "remove":
            queue.remove(signed.submission_id)
            model.pop(number, None)
        elif number in model:
            queue.postpone(signed.submission_id, due)
            model[number] = due
    order = list(model)
    for miner in range(3):
        of_hotkey = sum(number % 3 == miner for number in order)
        assert queue.of_hotkey(WORLD.miners[miner].public_key) == of_hotkey
    assert len(queue) == len(order)
    for number, signed in enumerate(SUBMISSIONS):
        assert (signed.submission_id in queue) == (number in model)
    expected = {
        (
            SUBMISSIONS[number].submission_id,
            sum(other % 3 == number % 3 for other in order[:place]),
        )
        for place, number in enumerate(order)
        if model[number] <= now
    }
    due = [(entry.submission_id, entry.ahead) for entry in queue.due(now, len(SUBMISSIONS))]
    assert len(due) == len(expected)
    assert set(due) == expected


def test_no_more_is_taken_than_asked_for_and_what_is_due_first_comes_first() -> None:
    queue = WaitingQueue()
    for number, due in enumerate((3, 1, 2, 9)):
        queue.add(SUBMISSIONS[number], 0, due)
    taken = [queue.due(5, 2), queue.due(5, 2), queue.due(5, 2)]
    ids = [[entry.submission_id for entry in part] for part in taken]
    first, second, third = (SUBMISSIONS[number].submission_id for number in (1, 2, 0))
    assert ids == [[first, second], [third], []]
    queue.postpone(first, 7)
    assert [entry.submission_id for entry in queue.due(9, 9)] == [
        first,
        SUBMISSIONS[3].submission_id,
    ]
