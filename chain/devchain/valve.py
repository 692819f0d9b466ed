"""A stream that can be made half-open: the connection stays, and nothing comes through any more."""

from __future__ import annotations

import trio


class Valve:
    """Open or shut, for all streams behind it."""

    def __init__(self) -> None:
        self._opened = trio.Event()
        self._opened.set()

    def turn(self, shut: bool) -> None:
        """Shut it or open it; what waited goes on when it opens."""
        if shut and self._opened.is_set():
            self._opened = trio.Event()
        elif not shut:
            self._opened.set()

    async def passed(self) -> None:
        """Return when it is open."""
        while not self._opened.is_set():
            await self._opened.wait()


class ValvedStream(trio.abc.HalfCloseableStream):
    """`stream` behind a valve. While it is shut, what the peer sends stays in the kernel."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, valve: Valve) -> None:
        self._stream = stream
        self._valve = valve

    async def passed(self) -> None:
        """Return when the valve is open."""
        await self._valve.passed()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send when the valve is open."""
        await self._valve.passed()
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for the valve, then for room."""
        await self._valve.passed()
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Say goodbye when the valve is open."""
        await self._valve.passed()
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return what came in, once the valve is open."""
        await self._valve.passed()
        data = await self._stream.receive_some(max_bytes)
        # It may have been shut meanwhile: what came in then must not be answered before it opens.
        await self._valve.passed()
        return data

    async def aclose(self) -> None:
        """Close at once, open or shut."""
        await self._stream.aclose()


class ValvedListener(trio.abc.Listener[ValvedStream]):
    """A listener whose streams are all behind one valve."""

    def __init__(self, listener: trio.SocketListener, valve: Valve) -> None:
        self.socket = listener.socket
        self._listener = listener
        self._valve = valve

    async def accept(self) -> ValvedStream:
        """Return the next connection; accepting is not held back."""
        return ValvedStream(await self._listener.accept(), self._valve)

    async def aclose(self) -> None:
        """Stop listening."""
        await self._listener.aclose()
