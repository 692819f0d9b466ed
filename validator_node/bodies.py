"""Bodies and modules by their hash, from the other validators and from who published them.

Rules:
1. Holders are asked in a random order, anew for each round: none of them is the first for ever.
2. `MODULES_AT_ONCE` modules are fetched at a time, the longest waiting first. The wait for that
   takes nothing from the time of the fetch: modules that never come only delay the others.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio

from protocol.records.submission import MAX_BODY_BYTES, Submission
from validator_node.blobs import BlobFetcher, BlobUnavailableError
from validator_node.blobs.turns import shuffled
from validator_node.store import Store

BODY_DEADLINE_S = 30.0
MODULE_DEADLINE_S = 300.0
MODULE_WAIT_S = 1800.0
MODULES_AT_ONCE = 2
"""As many of `MAX_MODULE_BYTES` as fit into the fetcher's bytes for blobs of unknown size."""
MAX_MODULE_BYTES = 32 * 1024 * 1024
"""Python components have 18 MB; other modules, data and vectors are smaller."""

log = structlog.get_logger(__name__)


class Bodies:
    """Fetches what this node lacks.

    `holders` returns the peer ids of the other validators, `module_holders` those of further peers
    that may have a part of a challenge: who published it, before any validator has it.
    """

    def __init__(
        self,
        store: Store,
        fetcher: BlobFetcher,
        holders: Callable[[], list[str]],
        module_holders: Callable[[], list[str]] = list,
    ) -> None:
        self._store = store
        self._fetcher = fetcher
        self._holders = holders
        self._module_holders = module_holders
        self._module_turns = trio.Semaphore(MODULES_AT_ONCE)

    async def body(self, submission: Submission) -> bytes | None:
        """Return a submission's body, kept from now on; None if nobody delivered it."""
        try:
            body = await self._fetcher.fetch(
                submission.body_hash,
                size=submission.body_size,
                holders=lambda: shuffled(self._holders()),
                max_bytes=MAX_BODY_BYTES,
                deadline_s=BODY_DEADLINE_S,
            )
        except BlobUnavailableError as error:
            log.info("body not fetched", reason=str(error))
            return None
        self._store.put_body(submission.body_hash, body)
        return body

    async def module(self, digest: bytes) -> bytes | None:
        """Return a part of a challenge; None if nobody delivered it."""
        with trio.move_on_after(MODULE_WAIT_S) as waiting:
            await self._module_turns.acquire()
        if waiting.cancelled_caught:
            log.warning("module not fetched", blob=digest.hex()[:16], reason="others take too long")
            return None
        try:
            return await self._fetcher.fetch(
                digest,
                size=None,
                holders=lambda: shuffled([*self._holders(), *self._module_holders()]),
                max_bytes=MAX_MODULE_BYTES,
                deadline_s=MODULE_DEADLINE_S,
            )
        except BlobUnavailableError as error:
            log.warning("module not fetched", reason=str(error))
            return None
        finally:
            self._module_turns.release()
