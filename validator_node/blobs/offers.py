"""The bodies a miner hands out until nobody waits for them any more.

A body is offered under its hash from before its submission is published. `bytes_offered` is
bounded: the oldest offer gives way, and its submission may end as `body_unavailable`.
"""

from __future__ import annotations

from collections import OrderedDict

from protocol.codec import sha256

MAX_OFFERED_BYTES = 64 * 1024 * 1024


class Offers:
    """Bodies by the id of their submission, and found by their hash."""

    def __init__(self, max_bytes: int = MAX_OFFERED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bodies: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
        self._of_digest: dict[bytes, bytes] = {}
        self.bytes_offered = 0
        self.dropped = 0
        """Offers that had to give way."""

    def __len__(self) -> int:
        return len(self._bodies)

    def has_room_for(self, size: int) -> bool:
        """Whether so many bytes can be offered without another offer giving way."""
        return not self._bodies or self.bytes_offered + size <= self._max_bytes

    def add(self, submission_id: bytes, body: bytes, at: float) -> None:
        """Offer a body from the time `at` on."""
        self.drop(submission_id)
        self._bodies[submission_id] = (body, at)
        self._of_digest[sha256(body)] = submission_id
        self.bytes_offered += len(body)
        while self.bytes_offered > self._max_bytes and len(self._bodies) > 1:
            self.drop(next(iter(self._bodies)))
            self.dropped += 1

    def drop(self, submission_id: bytes) -> None:
        """Offer a body no longer; one that is not offered is no error."""
        body, _ = self._bodies.pop(submission_id, (None, 0.0))
        if body is not None:
            self.bytes_offered -= len(body)
            digest = sha256(body)
            if self._of_digest.get(digest) == submission_id:
                del self._of_digest[digest]

    def open(self) -> list[tuple[bytes, float]]:
        """Return what is offered, as submission ids and since when, the oldest first."""
        return [(submission_id, at) for submission_id, (_, at) in self._bodies.items()]

    def body(self, digest: bytes) -> bytes | None:
        """Return the offered body with this SHA-256, or None: a source of `BlobService`."""
        submission_id = self._of_digest.get(digest)
        return None if submission_id is None else self._bodies[submission_id][0]
