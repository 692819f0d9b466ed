r"""Artifacts on disk: keyed by engine and module, authenticated, bounded, and never trusted.

Rules:
1. Loading an artifact runs its machine code. A file counts only if its MAC holds under the node's
   key, for the engine and module it is asked for; anything else is deleted, counted, and the module
   is compiled again. Nobody but the node knows the key: workers get checked bytes, not files.
2. The folder is this user's own, mode 0700. Symbolic links are not followed.
3. `max_bytes` bounds the files: the least recently used go first. Files of another engine, and
   what an interrupted write left, go when the cache is opened. Files of any other name are left
   alone.
4. It is a cache: what cannot be written (a full disk) is counted and not an error.

Layout of `<engine id>-<module hash>.artifact` (both in hex), mode 0600:

     8  b"artfct1\n"
    32  BLAKE2b-256 under the key, over engine id, module hash and the rest of the file
     -  the `Artifact`, encoded by `protocol.codec`
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
import threading
from collections import Counter, OrderedDict
from pathlib import Path

from protocol.codec import decode, encode
from protocol.errors import DecodeError
from runtime.artifact import MAX_ARTIFACT_BYTES, Artifact

MAGIC = b"artfct1\n"
MAC_BYTES = 32
KEY_BYTES = 32
MAX_CACHE_BYTES = 512 * 1024 * 1024
_PERSON = b"artifact cache 1"
_NAME = re.compile(r"^[0-9a-f]{64}-[0-9a-f]{64}\.artifact(\.part)?\Z")
_OPEN = os.O_CLOEXEC | os.O_NOFOLLOW


class ArtifactFolderError(Exception):
    """The cache's folder is not private to this user."""


class ArtifactCache:
    """Artifacts by module hash, for one engine. Blocking, and safe to use from any thread."""

    def __init__(
        self, folder: Path, key: bytes, engine_id: bytes, *, max_bytes: int = MAX_CACHE_BYTES
    ) -> None:
        """Open the cache in `folder`, which is made if it is not there.

        Raises `ArtifactFolderError`, `OSError`, and `ValueError` for a key of another length.
        """
        if len(key) != KEY_BYTES:
            raise ValueError(f"artifact cache: a key of {len(key)} bytes, expected {KEY_BYTES}")
        self._folder = folder
        self._key = key
        self._engine_id = engine_id
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._sizes: OrderedDict[bytes, int] = OrderedDict()
        self.bytes = 0
        """Bytes of all files."""
        self.events: Counter[str] = Counter()
        """hit, miss, stored, evicted, dropped (rule 1), stale (rule 3), unwritten (rule 4)."""
        _make_private(folder)
        self._scan()

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, module_hash: bytes) -> bool:
        return module_hash in self._sizes

    def get(self, module_hash: bytes) -> Artifact | None:
        """Return the artifact of a module if a sound one is here (rule 1)."""
        with self._lock:
            if module_hash not in self._sizes:
                self.events["miss"] += 1
                return None
            artifact = self._read(module_hash)
            if artifact is None:
                self.events["dropped"] += 1
                self._forget(module_hash)
                return None
            self.events["hit"] += 1
            self._sizes.move_to_end(module_hash)
            return artifact

    def put(self, artifact: Artifact) -> bool:
        """Keep an artifact of this cache's engine; return whether it is stored now (rule 4)."""
        if artifact.engine_id != self._engine_id:
            raise ValueError(f"artifact of engine {artifact.engine_id.hex()}, not of this cache's")
        payload = encode(artifact)
        content = MAGIC + self._mac(artifact.module_hash, payload) + payload
        with self._lock:
            if len(content) > self._max_bytes:
                self.events["unwritten"] += 1
                return False
            try:
                self._write(self._path(artifact.module_hash), content)
            except OSError:
                self.events["unwritten"] += 1
                return False
            self.events["stored"] += 1
            self.bytes += len(content) - self._sizes.pop(artifact.module_hash, 0)
            self._sizes[artifact.module_hash] = len(content)
            while self.bytes > self._max_bytes:
                self.events["evicted"] += 1
                self._forget(next(iter(self._sizes)))
        return True

    def _path(self, module_hash: bytes) -> Path:
        return self._folder / f"{self._engine_id.hex()}-{module_hash.hex()}.artifact"

    def _mac(self, module_hash: bytes, payload: bytes) -> bytes:
        mac = hashlib.blake2b(key=self._key, digest_size=MAC_BYTES, person=_PERSON)
        for part in (self._engine_id, module_hash, payload):
            mac.update(part)
        return mac.digest()

    def _read(self, module_hash: bytes) -> Artifact | None:
        path = self._path(module_hash)
        try:
            with open(os.open(path, os.O_RDONLY | _OPEN), "rb") as file:  # noqa: PTH123
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    return None
                content = file.read(MAX_ARTIFACT_BYTES + len(MAGIC) + MAC_BYTES + 1)
            os.utime(path)  # the order of use, for the next start
        except OSError:
            return None
        mac, payload = content[len(MAGIC) :][:MAC_BYTES], content[len(MAGIC) + MAC_BYTES :]
        if not content.startswith(MAGIC):
            return None
        if not hmac.compare_digest(mac, self._mac(module_hash, payload)):
            return None
        try:
            return decode(Artifact, payload, limit_bytes=MAX_ARTIFACT_BYTES)
        except DecodeError:
            return None

    def _write(self, path: Path, content: bytes) -> None:
        part = path.with_name(path.name + ".part")
        # no fsync: after a power failure the MAC tells
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _OPEN, 0o600)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123
                file.write(content)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise

    def _forget(self, module_hash: bytes) -> None:
        self.bytes -= self._sizes.pop(module_hash)
        try:
            self._path(module_hash).unlink(missing_ok=True)
        except OSError:  # a folder where our file was, or a folder gone read-only
            self.events["unremoved"] += 1

    def _scan(self) -> None:
        found: list[tuple[int, bytes, int]] = []
        prefix = self._engine_id.hex() + "-"
        for entry in os.scandir(self._folder):
            if not _NAME.match(entry.name):
                continue
            status = entry.stat(follow_symlinks=False)
            if not entry.name.startswith(prefix) or entry.name.endswith(".part"):
                Path(entry.path).unlink()
                self.events["stale"] += 1
                continue
            module_hash = bytes.fromhex(entry.name[len(prefix) :][:64])
            found.append((status.st_mtime_ns, module_hash, status.st_size))
        for _, module_hash, size in sorted(found):
            self._sizes[module_hash] = size
            self.bytes += size
        while self.bytes > self._max_bytes:
            self.events["evicted"] += 1
            self._forget(next(iter(self._sizes)))


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise ArtifactFolderError(f"artifact cache {folder}: is not a folder (links are refused)")
    if status.st_uid != os.geteuid():
        raise ArtifactFolderError(
            f"artifact cache {folder}: belongs to user {status.st_uid}, this node runs as "
            f"{os.geteuid()}; remove the folder, it holds nothing that cannot be made again"
        )
    if status.st_mode & 0o077:
        raise ArtifactFolderError(f"artifact cache {folder}: open to others; run chmod 700 on it")
