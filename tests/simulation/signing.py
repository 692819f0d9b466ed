"""Stand-ins of the simulator: signatures, batches, state roots, and the validators' names.

A signature is a keyed hash: as good as a real one among players who keep to the rule that nobody
signs with a key that is not theirs, and fifty times cheaper.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from protocol.codec import sha256

NETWORK = sha256(b"simulated network")
GENESIS_ROOT = sha256(b"state", NETWORK)


def keyed_sign(key: bytes):
    def sign(message: bytes) -> bytes:
        return hashlib.blake2b(message, key=key, digest_size=64).digest()

    return sign


def keyed_verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    return hashlib.blake2b(message, key=public_key, digest_size=64).digest() == signature


def consensus_key(identity: int) -> bytes:
    return sha256(b"consensus", bytes([identity]))


def hotkey(identity: int) -> bytes:
    return sha256(b"hotkey", bytes([identity]))


def state_root(digest: bytes) -> bytes:
    """The state after a slot is here its chain hash, which holds all that came before."""
    return sha256(b"state", digest)


@dataclass(frozen=True)
class Body:
    """A batch as far as the engine looks at it: a state root and something that tells it apart."""

    state_root: bytes
    nonce: bytes
    root: bytes = field(default=b"", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", sha256(self.state_root, self.nonce))

    def body_root(self) -> bytes:
        return self.root
