"""The pipes to processes that an attack needs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio


async def lines(process: trio.Process) -> AsyncIterator[bytes]:
    """Yield what a process writes, a line at a time, until it ends."""
    assert process.stdout is not None
    buffer = bytearray()
    async for data in process.stdout:
        buffer += data
        while (at := buffer.find(b"\n")) >= 0:
            yield bytes(buffer[:at])
            del buffer[: at + 1]


async def end(process: trio.Process) -> None:
    """Kill a process if it runs."""
    if process.poll() is None:
        process.kill()
    await process.wait()
