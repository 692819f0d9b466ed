"""Requests that are begun and never finished."""

from __future__ import annotations

from typing import Any

import trio

from tests.attacks.attack import Attack
from tests.attacks.hostile import stranger, tell
from tests.attacks.stage import Stage
from validator_node.queries import RECEIPT_PROTOCOL

PEERS = 9
STREAMS = 16
"""As many requests as a peer may have under way."""


class IdleRequests(Attack):
    """See the module."""

    name = "idle-requests"
    does = f"{PEERS} peers of one address hold {STREAMS} request streams each and ask nothing"
    before = "all slots were theirs, and honest peers were refused and charged for it"
    share = 0.7

    async def play(self, stage: Stage, seconds: float) -> dict[str, float]:
        """Hold the slots while honest peers ask."""
        victim = stage.site(0).address
        async with stage.hostile(self.name, target=victim) as hostile:
            await hostile.until("opened")
            await trio.sleep(seconds)
            opened = hostile.told["opened"]
        return {"streams": opened}

    async def hostile(self, settings: dict[str, Any]) -> None:
        """Open a stream again whenever one is reset."""
        opened = 0

        async def hold(network: Any) -> None:
            nonlocal opened
            while True:
                try:
                    stream = await network._opener.open(
                        next(iter(network.peers())), RECEIPT_PROTOCOL, max_frame_bytes=1
                    )
                    opened += 1
                    await stream._stream.write(b"\0\0")  # half of a length
                    await stream._stream.read(1)
                except Exception:  # whatever a reset stream or a lost peer raises
                    await trio.sleep(0.2)

        async def peer() -> None:
            async with stranger(settings["target"]) as network, trio.open_nursery() as nursery:
                for _ in range(STREAMS):
                    nursery.start_soon(hold, network)

        async with trio.open_nursery() as nursery:
            for _ in range(PEERS):
                nursery.start_soon(peer)
            while opened < PEERS * STREAMS:  # noqa: ASYNC110  # of tasks of our own
                await trio.sleep(0.5)
            while True:
                tell(opened=opened)
                await trio.sleep(0.5)
