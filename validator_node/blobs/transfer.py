"""One blob on its way here: what has come, from whom, and whether it is the right content. Pure.

Rules:
1. Pieces are appended in order, so what has come is a beginning of the blob, and the next holder
   goes on where the last one stopped.
2. Only the hash of the whole proves anything. If it is wrong and all came from one holder, that
   one lied. If several had a part in it, nobody knows who did: the pieces' hashes are kept, the
   blob is fetched again from a single holder, and the right content then tells whose were wrong.
3. A blob is held once: the buffer becomes the result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

from protocol.codec import sha256
from validator_node.network.errors import NetworkError


class BlobUnavailableError(NetworkError):
    """No holder delivered a blob; `said` tells, by peer id, why each did not."""

    def __init__(self, digest: bytes, said: Mapping[str, str], why: str) -> None:
        details = "; ".join(f"{peer_id}: {reason}" for peer_id, reason in said.items())
        super().__init__(f"blob {digest.hex()[:16]}: {why} ({details or 'nobody was asked'})")
        self.digest = digest
        self.said = dict(said)


@dataclass(frozen=True, slots=True)
class _Part:
    """What one holder sent in a row."""

    peer_id: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class _Doubtful:
    """A part of a mixture that was wrong as a whole."""

    part: _Part
    digest: bytes


class Transfer:
    """The state of fetching one blob."""

    def __init__(self, digest: bytes, expected_size: int | None, max_bytes: int) -> None:
        """`expected_size` is what the asker knows of the size, if anything."""
        self.digest = digest
        self.max_bytes = max_bytes
        self.liars: set[str] = set()
        """Holders that are not to be asked again; their user keeps it."""
        self.is_alone = False
        """Whether the blob has to come from a single holder now (rule 2)."""
        self.content: bytes | None = None
        """The whole, once it has the right hash."""
        self._expected_size = expected_size
        self.came = 0
        """Bytes that have come, those forgotten again included."""
        self._doubtful: list[_Doubtful] = []
        self.restart()

    def restart(self) -> None:
        """Forget what has come."""
        self._buffer = BytesIO()
        self._hash = hashlib.sha256()
        self._parts: list[_Part] = []
        self.size = self._expected_size
        self.received = 0

    def why_not(self, size: int) -> str | None:
        """Return what speaks against a holder that says the blob has `size` bytes, or None."""
        if size == 0:
            return "does not have it"
        if size > self.max_bytes:
            return f"has {size} bytes, at most {self.max_bytes} are wanted"
        if self._expected_size is not None and size != self._expected_size:
            return f"has {size} bytes, it should be {self._expected_size}"
        return None

    def begin(self, peer_id: str, size: int) -> None:
        """Go on with a holder, whose word on the size passed `why_not`.

        If it contradicts an earlier holder's, the blob has to come from a single one.
        """
        others = any(part.peer_id != peer_id for part in self._parts if part.length)
        if others and self.size != size:
            self._doubt()
        elif self.size != size or (others and self.is_alone):
            self.restart()
        self.size = size
        self._parts.append(_Part(peer_id, self.received, 0))

    def append(self, data: bytes) -> None:
        """Take the next piece from the holder that `begin` named."""
        self._buffer.write(data)
        self._hash.update(data)
        self.received += len(data)
        self.came += len(data)
        last = self._parts[-1]
        self._parts[-1] = _Part(last.peer_id, last.offset, last.length + len(data))

    @property
    def is_complete(self) -> bool:
        """Whether as many bytes have come as the blob has."""
        return self.size is not None and 0 < self.size == self.received

    def finish(self) -> set[str]:
        """Judge a complete transfer (rule 2); return the holders that are found to have lied.

        Afterwards `content` is set, or everything begins again.
        """
        if self._hash.digest() == self.digest:
            self.content = self._buffer.getvalue()
            return self._found_out(self.content)
        if len({part.peer_id for part in self._parts if part.length}) > 1:
            self._doubt()
            return set()
        liar = self._parts[-1].peer_id
        self.restart()
        return {liar}

    def _doubt(self) -> None:
        view = self._buffer.getbuffer()
        try:
            for part in self._parts:
                piece = view[part.offset : part.offset + part.length]
                self._doubtful.append(_Doubtful(part, hashlib.sha256(piece).digest()))
        finally:
            view.release()
        self.is_alone = True
        self.restart()

    def _found_out(self, content: bytes) -> set[str]:
        right = memoryview(content)
        found = set()
        for doubtful in self._doubtful:
            part = doubtful.part
            piece = right[part.offset : part.offset + part.length]
            if hashlib.sha256(piece).digest() != doubtful.digest:
                found.add(part.peer_id)
        self._doubtful.clear()
        return found


EMPTY_DIGEST = sha256(b"")
"""The hash of the blob that nobody needs to be asked for."""
