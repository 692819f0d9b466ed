"""Corrections of Yamux, records, reads and logging: what the stock code does too often."""

import struct
from typing import Any

import libp2p.pubsub.pubsub as pubsub_module
import pytest
import trio
import trio.testing
from libp2p.exceptions import ParseError
from libp2p.io.exceptions import IncompleteReadError, MessageTooLarge
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream
from libp2p.utils.varint import encode_varint_prefixed

from tests.validator_node.network.support import nodes, uncorrected, until, yes
from validator_node.network.upstream import (
    eager_logging,
    signed_records,
    varint_reads,
    whole_frames,
    yamux_flow_control,
)

TOPIC = "/test/topic/1"


async def window_updates_for_a_mebibyte(monkeypatch: pytest.MonkeyPatch) -> int:
    sent: list[int] = []
    original = Yamux._write_frame

    async def count(self: Any, data: bytes) -> None:
        if data[1] == 1 and struct.unpack("!H", data[2:4]) == (0,):
            sent.append(len(data))
        await original(self, data)

    async with nodes(2) as (first, second):
        arrived: list[bytes] = []
        second.open_links("/test/links/1", on_frame=lambda _, frame: arrived.append(frame))
        links = first.open_links("/test/links/1", on_frame=lambda _, frame: None, capacity=2000)
        with trio.fail_after(10):
            await links.wait_up(1)
        with monkeypatch.context() as patched:
            patched.setattr(Yamux, "_write_frame", count)
            for _ in range(1024):
                links.send(second.peer_id, bytes(1024))
            await until(lambda: len(arrived) == 1024)
    return len(sent)


async def test_a_window_update_for_each_64_kib(monkeypatch: pytest.MonkeyPatch) -> None:
    with uncorrected(yamux_flow_control):
        stock = await window_updates_for_a_mebibyte(monkeypatch)
    corrected = await window_updates_for_a_mebibyte(monkeypatch)
    assert corrected <= 16 < stock


class Connection:
    """Stands in for a Yamux connection: keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.stream_buffers: dict[int, bytes] = {}
        self.event_shutting_down = trio.Event()
        self._nursery = None

    async def _write_frame(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.written += data


async def written_when_the_window_opens() -> int:
    connection: Any = Connection()
    stream = YamuxStream(1, connection, True)
    stream.send_window = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.write, b"data")
        await trio.testing.wait_all_tasks_blocked()
        stream.send_window += 4
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return len(connection.written)


async def test_a_blocked_writer_is_woken_and_does_not_poll(
    mock_clock: trio.testing.MockClock,
) -> None:
    """The clock stands still: whoever sleeps 10 ms between looks never sees the window open."""
    with uncorrected(yamux_flow_control):
        assert await written_when_the_window_opens() == 0
    assert await written_when_the_window_opens() == 16


async def test_a_writer_without_window_gives_up_and_a_reset_ends_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    connection: Any = Connection()
    stream = YamuxStream(1, connection, True)
    stream.send_window = 0
    with pytest.raises(MuxedStreamError, match="no window"):
        await stream.write(b"data")
    with pytest.RaisesGroup(MuxedStreamError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, b"data")
            await trio.testing.wait_all_tasks_blocked()
            stream.closed = True


async def test_a_peer_that_overruns_its_window_is_disconnected() -> None:
    async with nodes(2) as (victim, attacker):

        async def hold(stream: object) -> None:
            await trio.sleep_forever()

        victim._host.set_stream_handler("/test/hold/1", hold)
        stream = await attacker._opener.open(victim.peer_id, "/test/hold/1", max_frame_bytes=1)
        stream._stream.muxed_stream.send_window = 1 << 30
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:

                async def flood() -> None:
                    try:
                        while True:
                            await stream._stream.write(bytes(64_000))
                    except Exception:  # whatever a cut connection raises
                        return

                nursery.start_soon(flood)
                await victim.wait_lost(attacker.peer_id)
                nursery.cancel_scope.cancel()


class Socket:
    """A connection that takes a byte at each step of the scheduler."""

    def __init__(self) -> None:
        self.taken = b""

    async def write(self, data: bytes) -> None:
        for index in range(len(data)):
            await trio.lowlevel.checkpoint()
            self.taken += data[index : index + 1]


async def bytes_of_a_cancelled_frame() -> bytes:
    sock: Any = Socket()
    sock.is_initiator = True
    muxer = Yamux(sock, None)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(muxer._write_frame, bytes(12) + b"payload")
        while not sock.taken:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    return sock.taken


async def test_a_cancelled_frame_is_written_whole() -> None:
    with uncorrected(whole_frames):
        assert len(await bytes_of_a_cancelled_frame()) < 19
    assert await bytes_of_a_cancelled_frame() == bytes(12) + b"payload"


async def verifications_for_twenty_messages(monkeypatch: pytest.MonkeyPatch) -> int:
    verified: list[bytes] = []
    import libp2p.pubsub.utils as stock_module

    for module in (stock_module, signed_records):
        original = module.consume_envelope

        def count(data: bytes, domain: str, original: Any = original) -> Any:
            verified.append(data)
            return original(data, domain)

        monkeypatch.setattr(module, "consume_envelope", count)
    async with nodes(2) as (reader, writer):
        channel = await reader.join(TOPIC, yes)
        with trio.fail_after(10):
            await writer.wait_subscriber(TOPIC)
            for _ in range(20):
                await writer.publish(TOPIC, b"x")
                await channel.receive()
    return len(verified)


async def test_a_signed_record_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with uncorrected(signed_records):
        assert await verifications_for_twenty_messages(monkeypatch) >= 20
    assert await verifications_for_twenty_messages(monkeypatch) <= 4


class Reader:
    """Gives its chunks one a read, then the end."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)
        self.reads = 0

    async def read(self, n: int) -> bytes:
        self.reads += 1
        if not self.chunks:
            return b""
        chunk, rest = self.chunks[0][:n], self.chunks[0][n:]
        self.chunks[:1] = [rest] if rest else []
        return chunk


async def read_all(reader: Reader, count: int) -> list[bytes]:
    read: Any = pubsub_module.read_varint_prefixed_bytes_limited
    return [await read(reader, 1 << 20) for _ in range(count)]


async def test_messages_are_read_in_large_pieces() -> None:
    messages = [bytes([number]) * 300 for number in range(10)]
    stream = b"".join(encode_varint_prefixed(message) for message in messages)
    with uncorrected(varint_reads):
        reader = Reader(stream)
        assert await read_all(reader, 10) == messages
        assert reader.reads == 30
    reader = Reader(stream)
    assert await read_all(reader, 10) == messages
    assert reader.reads == 1
    split = Reader(*(stream[index : index + 7] for index in range(0, len(stream), 7)))
    assert await read_all(split, 10) == messages


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\xff" * 11, ParseError),
        (b"\x85\x80\x80\x08", MessageTooLarge),
        (b"\x05ab", IncompleteReadError),
        (b"\x80", IncompleteReadError),
    ],
)
async def test_bad_lengths_are_refused(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        await read_all(Reader(data), 1)


def test_hot_functions_format_no_debug_lines() -> None:
    with uncorrected(eager_logging):
        assert "debug" in Yamux.handle_incoming.__code__.co_names
    for owner, name in ((Yamux, "handle_incoming"), (Yamux, "read_stream")):
        assert "debug" not in getattr(owner, name).__code__.co_names
