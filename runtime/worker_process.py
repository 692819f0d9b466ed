"""One worker process as the pool sees it: start, ask, kill.

Rules:
1. One task reads, and writes what may take a while. Another may write a small job in between
   (`write_at_once`), never into the middle of a frame. After any exception from `ask` or `receive`,
   cancellation included, the pipe may hold half a frame: the only thing left to do is `kill`.
2. `kill` always reaps the process, also inside a cancelled scope.
3. The environment is made here, not inherited: a worker sees no secret of the node's.
"""

from __future__ import annotations

import os
import select
import subprocess

import trio

from protocol.errors import ProtocolError
from runtime import children, wire
from runtime.errors import FaultReason

COMMAND = children.command("runtime.worker")
READ_BYTES = 65_536


class WorkerLost(Exception):  # noqa: N818 - says what happened, as the fault it becomes
    """The worker cannot be used any more; `reason` is the fault of the job in hand."""

    def __init__(self, text: str, reason: FaultReason = FaultReason.WORKER_LOST) -> None:
        super().__init__(text)
        self.reason = reason


class WorkerProcess:
    """A child running `runtime.worker`, with framed pipes."""

    def __init__(self) -> None:
        self._process: trio.Process | None = None
        self._buffer = bytearray()
        self._writing = False
        self._input = self._output = -1
        """The descriptors of its pipes while it runs."""

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the process. Raises `OSError`."""
        self._process = await trio.lowlevel.open_process(
            list(COMMAND), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=children.environment()
        )
        self._input, self._output = map(_descriptor, (self._process.stdin, self._process.stdout))

    async def ask(self, request: bytes, limit_s: float) -> wire.Reply:
        """Write a frame (or nothing) and return the next reply.

        Raises `WorkerLost`: reason deadline when no reply came in `limit_s`, worker_lost otherwise.
        """
        with trio.move_on_after(limit_s):
            await self._write(request)
            try:
                return await self.receive()
            except (ProtocolError, ValueError) as error:
                raise WorkerLost(f"nonsense from the worker: {error}") from error
        raise WorkerLost(f"no answer in {limit_s:g} s", FaultReason.DEADLINE)

    def write_at_once(self, data: bytes) -> bool:
        """Write a small frame whole and without waiting, or nothing of it; return whether."""
        if self._writing or len(data) > select.PIPE_BUF:
            return False
        try:
            return os.write(self._input, data) == len(data)
        except (BlockingIOError, BrokenPipeError):
            return False

    async def readable(self) -> None:
        """Wait until the worker said something, or ended."""
        if not self._buffer:
            await trio.lowlevel.wait_readable(self._output)

    async def receive(self) -> wire.Reply:
        """Return the next reply.

        Raises `WorkerLost` at the end, `ValueError` or `ProtocolError` for what is no reply.
        """
        while True:
            reply = self._buffered()
            if reply is not None:
                return reply
            self._buffer += await self._read()

    def receive_at_once(self) -> wire.Reply | None:
        """Return the next reply if it has arrived whole.

        Raises `WorkerLost` at the end, and when it is nonsense.
        """
        try:
            # what a worker said before it was lost counts, so the end is not looked for first
            if (reply := self._buffered()) is not None:
                return reply
            self._buffer += self._read_at_once()
            return self._buffered()
        except BlockingIOError:
            return None
        except (ProtocolError, ValueError) as error:
            raise WorkerLost(f"nonsense from the worker: {error}") from error

    def _buffered(self) -> wire.Reply | None:
        buffer = self._buffer
        if len(buffer) < wire.LENGTH_BYTES:
            return None
        end = wire.LENGTH_BYTES + wire.frame_size(buffer[: wire.LENGTH_BYTES], wire.MAX_REPLY_BYTES)
        if len(buffer) < end:
            return None
        payload = bytes(buffer[wire.LENGTH_BYTES : end])
        del buffer[:end]
        return wire.read_reply(payload)

    async def kill(self) -> None:
        """End the process, if it runs, and reap it."""
        process, self._process = self._process, None
        self._buffer.clear()
        self._writing = False
        self._input = self._output = -1
        if process is None:
            return
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    await stream.aclose()

    async def _write(self, data: bytes) -> None:
        # straight to the descriptor (trio made it non-blocking): a stream's send_all and
        # receive_some each add a turn of the event loop, half the cost of a small job
        view = memoryview(data)
        self._writing = True
        while view:
            try:
                view = view[os.write(self._input, view) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._input)
            except BrokenPipeError as error:
                raise WorkerLost("the worker died") from error
        self._writing = False

    async def _read(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._output)
            try:
                return self._read_at_once()
            except BlockingIOError:
                continue

    def _read_at_once(self) -> bytes:
        data = os.read(self._output, READ_BYTES)
        if not data:
            raise WorkerLost("the worker died")
        return data


def _descriptor(stream: object) -> int:
    assert isinstance(stream, trio.lowlevel.FdStream)
    return stream.fileno()
