"""Bodies and modules by their hash, from the other validators and from who published them."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from protocol.records.submission import MAX_BODY_BYTES, Submission
from validator_node.blobs import BlobFetcher, BlobUnavailableError
from validator_node.store import Store

BODY_DEADLINE_S = 30.0
MODULE_DEADLINE_S = 300.0
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

    async def body(self, submission: Submission) -> bytes | None:
        """Return a submission's body, kept from now on; None if nobody delivered it."""
        try:
            body = await self._fetcher.fetch(
                submission.body_hash,
                size=submission.body_size,
                holders=self._holders,
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
        try:
            return await self._fetcher.fetch(
                digest,
                size=None,
                holders=lambda: [*self._holders(), *self._module_holders()],
                max_bytes=MAX_MODULE_BYTES,
                deadline_s=MODULE_DEADLINE_S,
            )
        except BlobUnavailableError as error:
            log.warning("module not fetched", reason=str(error))
            return None
