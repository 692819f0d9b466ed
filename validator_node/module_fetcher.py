"""Modules and other parts of challenges by their hash, from whoever has them.

Rules:
1. Holders are asked in a random order, anew for each attempt: none of them is the first for ever.
2. Parts are fetched in fair turns, each on its own account (`blobs.slots`): those that never come
   only delay the others, and ever less.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import structlog
import trio

from validator_node.blobs import BlobFetcher
from validator_node.blobs.accounts import SlotLimits
from validator_node.blobs.queue import BlobQueue, Wanted
from validator_node.blobs.turns import shuffled

MODULE_DEADLINE_S = 300.0
MAX_MODULE_BYTES = 32 * 1024 * 1024
"""Python components have 18 MB; other modules, data and vectors are smaller."""
LIMITS = SlotLimits(
    slots=4,
    first_s=10.0,
    most_s=40.0,
    quantum_s=20.0,
    most_wait_s=30.0,
    large_bytes=2 * MAX_MODULE_BYTES,
    kept_bytes=MAX_MODULE_BYTES,
)
"""A turn is longer than for a body: there are more holders to ask, and more to bring."""

log = structlog.get_logger(__name__)


class ModuleFetcher:
    """Fetches parts of challenges.

    `holders` returns the peer ids that may have one: validators, and who published it before any
    validator has it.
    """

    def __init__(self, fetcher: BlobFetcher, holders: Callable[[], list[str]]) -> None:
        self.queue = BlobQueue(fetcher.asking, LIMITS)
        self._holders = holders
        self._numbers = count()

    async def fetch(self, digest: bytes) -> bytes | None:
        """Return a part of a challenge; None if nobody delivered it in `MODULE_DEADLINE_S`."""
        came = trio.Event()
        found: list[bytes] = []

        def on_body(content: bytes | None) -> None:
            if content is not None:
                found.append(content)
            came.set()

        key = (digest, next(self._numbers))
        wanted = Wanted(
            digest=digest,
            size=None,
            max_bytes=MAX_MODULE_BYTES,
            holders=lambda: shuffled(self._holders()),
            is_here=lambda: False,
            on_body=on_body,
        )
        try:
            with trio.move_on_after(MODULE_DEADLINE_S):
                self.queue.want(key, digest, wanted)
                await came.wait()
        finally:
            self.queue.drop(key)
        if not found:
            log.warning("module not fetched", blob=digest.hex()[:16])
            return None
        return found[0]

    async def run(self) -> None:
        """Fetch what is wanted, for ever."""
        await self.queue.run()
