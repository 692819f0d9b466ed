"""A peer killed with SIGKILL is soon back when it starts; one that hangs keeps nobody from ending.

The one that stayed dials with a back-off that doubles: however long the peer was away, the next
dial comes after as long again at the latest, and 2 seconds are enough for everything after it.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import trio
import trio.testing

from tests.validator_node.network.peer_process import LINKS, TOPIC
from tests.validator_node.network.support import config, until, yes
from validator_node.network import open_network

MEGABYTE = 1_048_576
ENDS_S = 8
"""Without cutting the connection it takes more than 10: each write has a deadline of its own."""
ROOT = Path(__file__).parents[3]


async def start(port: int, *bootstrap: str) -> tuple[trio.Process, str]:
    command = [sys.executable, "-m", "tests.validator_node.network.peer_process", "5", str(port)]
    process = await trio.lowlevel.open_process(
        [*command, *bootstrap],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        data = await process.stdout.receive_some()
        assert data, "the peer process ended early"
        line += data
    return process, line.decode().strip()


async def stop(process: trio.Process) -> None:
    process.kill()
    with trio.CancelScope(shield=True):
        await process.wait()
    assert process.stdout is not None
    await process.stdout.aclose()


async def test_links_and_gossip_come_back_after_sigkill() -> None:
    process = None
    try:
        with trio.fail_after(60):
            process, address = await start(0)
            port = int(address.split("/")[4])
            peer_id = address.rsplit("/", 1)[1]
            frames: list[bytes] = []
            async with open_network(config(1, address)) as node:
                links = node.open_links(LINKS, on_frame=lambda _, frame: frames.append(frame))
                channel = await node.join(TOPIC, yes)
                for round_number in range(3):
                    await links.wait_up(1)
                    await node.wait_subscriber(TOPIC)
                    links.send(peer_id, bytes([round_number]))
                    await until(lambda n=round_number: frames[-1:] == [bytes([n])])
                    await node.publish(TOPIC, b"hello %d" % round_number)
                    # Recent messages are replayed to the restarted peer: old echoes come first.
                    while (await channel.receive()).data != b"echo hello %d" % round_number:
                        pass
                    await stop(process)
                    await node.wait_lost(peer_id)
                    lost = trio.current_time()
                    process, _ = await start(port)
                    back = trio.current_time()
                    await links.wait_up(1)
                    await node.wait_subscriber(TOPIC)
                    assert trio.current_time() - back < back - lost + 2
    finally:
        if process is not None:
            await stop(process)


async def test_a_peer_that_takes_no_data_does_not_hold_up_the_end() -> None:
    """It is stopped, not killed: its connection stays open, and every write to it would wait."""
    with trio.fail_after(60):
        process, address = await start(0)
        try:
            peer_id = address.rsplit("/", 1)[1]
            async with open_network(config(1, address)) as node:
                links = node.open_links(LINKS, on_frame=lambda *_: None)
                await links.wait_up(1)
                process.send_signal(signal.SIGSTOP)
                for _ in range(16):
                    links.send(peer_id, bytes(MEGABYTE))
                # Its window and the socket's buffers are full once a frame has to wait for room.
                await trio.testing.wait_all_tasks_blocked(0.05)
                began = trio.current_time()
            assert trio.current_time() - began < ENDS_S
        finally:
            await stop(process)
