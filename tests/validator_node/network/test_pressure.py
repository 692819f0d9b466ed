"""How gossip makes room when the process is late."""

from __future__ import annotations

import time

import trio

from validator_node.network.pressure import LATE_S, MAX_PAUSE_S, TICK_S, Pressure


def test_a_punctual_process_does_not_pause() -> None:
    pressure = Pressure()
    for _ in range(100):
        pressure.note(LATE_S / 2)
    assert pressure.pause_s == 0


def test_the_pause_grows_while_it_is_late_and_ends_afterwards() -> None:
    pressure = Pressure()
    pauses = []
    for late in (2, 3, 5, 20, 20, 20):
        pressure.note(late * LATE_S)
        pauses.append(pressure.pause_s)
    assert pauses == sorted(pauses)
    assert 0 < pauses[2] < pauses[3]
    assert pauses[-1] == MAX_PAUSE_S
    for _ in range(100):
        pressure.note(0)
    assert pressure.pause_s == 0


async def test_a_loop_that_is_full_is_noticed() -> None:
    pressure = Pressure()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pressure.run)
        with trio.fail_after(60):
            while not pressure.pause_s:
                time.sleep(4 * LATE_S)  # noqa: ASYNC251 - what a long turn does
                await trio.sleep(TICK_S)
        nursery.cancel_scope.cancel()
    assert pressure.late_s > LATE_S


async def test_who_eases_waits_out_the_pause(autojump_clock: trio.testing.MockClock) -> None:
    pressure = Pressure()
    before = trio.current_time()
    await pressure.ease()
    assert trio.current_time() == before
    pressure.pause_s = 1.5
    await pressure.ease()
    assert trio.current_time() == before + 1.5
