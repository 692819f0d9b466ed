"""Content by its hash over streams: serving it, fetching it, and waiting for submissions' bodies.

`BlobService` answers `/validator/1/blob` from any number of sources, `BlobFetcher` gets a blob from
whoever holds it, `AwaitedBodies` fetches the bodies of submissions that travel by hash.
"""

from validator_node.blobs.awaited import AwaitedBodies
from validator_node.blobs.fetcher import BlobFetcher, over
from validator_node.blobs.service import (
    BLOB_PROTOCOL,
    MAX_BLOB_REPLY_BYTES,
    BlobLimits,
    BlobService,
)
from validator_node.blobs.transfer import BlobUnavailableError

__all__ = [
    "BLOB_PROTOCOL",
    "MAX_BLOB_REPLY_BYTES",
    "AwaitedBodies",
    "BlobFetcher",
    "BlobLimits",
    "BlobService",
    "BlobUnavailableError",
    "over",
]
