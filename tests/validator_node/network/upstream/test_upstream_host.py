"""What the host does by default, and what we make it do: security, ending, stalled writers."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import libp2p
import multiaddr
import psutil
import pytest
import trio
import trio.testing
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux.yamux import YamuxStream

from tests.validator_node.network.support import config, uncorrected
from validator_node.network import open_network
from validator_node.network.upstream import yamux_flow_control

ROOT = Path(__file__).parents[4]
LOOPBACK = multiaddr.Multiaddr("/ip4/127.0.0.1/tcp/0")


def multistream(*lines: str) -> bytes:
    return b"".join(bytes([len(line) + 1]) + line.encode() + b"\n" for line in lines)


async def answer_to_plaintext(port: int) -> bytes:
    """Ask for the plaintext protocol and return what the node says after the greeting."""
    with trio.fail_after(10):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(multistream("/multistream/1.0.0", "/plaintext/2.0.0"))
            heard = b""
            while heard.count(b"\n") < 2:
                data = await stream.receive_some()
                assert data, f"closed after {heard!r}"
                heard += data
            return heard.split(b"\n")[1]


async def test_stock_takes_plaintext_and_ours_does_not() -> None:
    stock: Any = libp2p.new_host(
        key_pair=create_new_key_pair(bytes(32)),
        listen_addrs=[LOOPBACK],
    )
    async with stock.run([LOOPBACK]):
        port = int(stock.get_addrs()[0].value_for_protocol("tcp"))
        assert await answer_to_plaintext(port) == b"\x11/plaintext/2.0.0"
        await stock.close()
    async with open_network(config(1)) as node:
        port = int(node.addresses[0].split("/")[4])
        assert await answer_to_plaintext(port) == b"\x03na"


def open_sockets() -> int:
    return len(psutil.Process().net_connections(kind="tcp"))


async def sockets_left_by_a_cancelled_stock_host() -> int:
    async with open_network(config(3)) as server:
        before = open_sockets()
        stock: Any = libp2p.new_host(key_pair=create_new_key_pair(bytes([9]) * 32))
        with trio.CancelScope() as scope:
            async with stock.run([LOOPBACK]):
                await stock.connect(info_from_p2p_addr(multiaddr.Multiaddr(server.addresses[0])))
                scope.cancel()
        left = open_sockets() - before
        await stock.close()
        for listener in stock.get_network().listeners.values():
            await listener.close()
        return left


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_what_a_cancelled_stock_host_leaves_open_ours_closes() -> None:
    assert await sockets_left_by_a_cancelled_stock_host() > 0
    gc.collect()  # they are closed here and not in another test
    async with open_network(config(3)) as server:
        before = open_sockets()
        with trio.CancelScope() as scope:
            async with open_network(config(4, *server.addresses)) as node:
                with trio.fail_after(10):
                    await node.wait_connected(1)
                    await server.wait_connected(1)
                scope.cancel()
        with trio.fail_after(10):
            await server.wait_lost(node.peer_id)
        assert open_sockets() == before


def end_of(kind: str, number: signal.Signals) -> tuple[int, str]:
    """Run a node, send it a signal, return its exit code and what it wrote to standard error.

    One that has not ended after 30 s is killed, which its code shows.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "tests.validator_node.network.signal_process", kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=30)
        finally:
            process.kill()
        _, errors = process.communicate()
    return process.returncode, errors


@pytest.mark.processes
def test_signals_end_a_node_in_good_order() -> None:
    code, _ = end_of("stock", signal.SIGTERM)
    assert code == -signal.SIGTERM
    code, errors = end_of("stock", signal.SIGINT)
    # It dies in the middle of something, or something swallows the interrupt and it goes on.
    assert code != 0
    assert "KeyboardInterrupt" in errors or code == -signal.SIGKILL
    for number in (signal.SIGTERM, signal.SIGINT):
        code, errors = end_of("own", number)
        assert (code, errors) == (0, "")


class Connection:
    """Stands in for a Yamux connection whose peer takes nothing."""

    def __init__(self) -> None:
        self.stream_buffers: dict[int, bytearray] = {}
        self.event_shutting_down = trio.Event()
        self._nursery = None

    async def _write_frame(self, data: bytes) -> None:
        raise AssertionError("there was no window")


async def seconds_until_a_writer_gives_up() -> float:
    connection: Any = Connection()
    stream = YamuxStream(1, connection, True)
    stream.send_window = 0
    began = trio.current_time()
    with pytest.raises(MuxedStreamError):
        await stream.write(b"data")
    return trio.current_time() - began


async def test_a_stalled_peer_has_ten_seconds_and_not_five(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with uncorrected(yamux_flow_control):
        assert 4.5 < await seconds_until_a_writer_gives_up() < 6
    assert 9.5 < await seconds_until_a_writer_gives_up() < 11
