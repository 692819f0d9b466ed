"""Version negotiation: one name in our code, several protocol ids on the wire, newest first.

Rules:
1. Versions of a protocol are whole protocol ids (`/validator/2/status`, `/validator/1/status`), and
   libp2p's own negotiation chooses: the opener offers its list in order and the other side takes
   the first that it serves. So both sides speak the newest version that both know.
2. The newest id is the protocol's name. It stands for one list for as long as the node runs.
3. Who serves asks `negotiated()` inside the handler; who opens asks `spoken` afterwards.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any, Final

from validator_node.network.errors import AlreadyJoinedError

MAX_SPOKEN: Final = 4_096
"""Pairs of peer and protocol whose version is remembered."""

_negotiated: ContextVar[str] = ContextVar("negotiated")


def negotiated() -> str:
    """Return the protocol id of the inbound stream whose handler asks.

    Raises:
        LookupError: not called from the handler of a request or of an inbound link.
    """
    return _negotiated.get()


class VersionedHost:
    """A libp2p host, as far as streams go, that knows protocols by their newest id."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self._versions: dict[str, tuple[str, ...]] = {}
        self._served: set[str] = set()
        self._spoken: OrderedDict[tuple[str, str], str] = OrderedDict()

    def declare(self, protocol: str | Sequence[str]) -> str:
        """Return the name of a protocol given by its only id or by all of them, newest first.

        Raises:
            ValueError: there is none, one comes twice, or the newest one stands for another list.
        """
        versions = (protocol,) if isinstance(protocol, str) else tuple(protocol)
        if not versions or len(set(versions)) < len(versions):
            raise ValueError(f"versions {versions}: at least one protocol id, each of them once")
        known = self._versions.setdefault(versions[0], versions)
        if known != versions:
            raise ValueError(f"{versions[0]} stands for {known} already, not for {versions}")
        return versions[0]

    def spoken(self, peer_id: str, name: str) -> str | None:
        """Return the version in which we last opened a stream to a peer, None if there was none."""
        return self._spoken.get((peer_id, name))

    def set_stream_handler(self, name: str, handler: Callable[[Any], Awaitable[None]]) -> None:
        """Serve every version of a protocol with one handler.

        Raises:
            AlreadyJoinedError: one of them is served already.
        """
        versions = self._versions.get(name, (name,))
        if taken := self._served.intersection(versions):
            raise AlreadyJoinedError(f"{', '.join(sorted(taken))}: served already")
        self._served.update(versions)

        async def handle(stream: Any) -> None:
            token = _negotiated.set(str(stream.get_protocol()))
            try:
                await handler(stream)
            finally:
                _negotiated.reset(token)

        for version in versions:
            self._host.set_stream_handler(version, handle)

    async def new_stream(self, peer_id: Any, names: Sequence[str]) -> Any:
        """Open a stream in the newest version that the peer serves too."""
        (name,) = names
        stream = await self._host.new_stream(peer_id, list(self._versions.get(name, (name,))))
        key = (str(peer_id), str(name))
        self._spoken[key] = str(stream.get_protocol())
        self._spoken.move_to_end(key)
        if len(self._spoken) > MAX_SPOKEN:
            self._spoken.popitem(last=False)
        return stream
