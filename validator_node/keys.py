"""The keystore: the three secret seeds of a node, encrypted in one file.

The file holds a salt and a secretbox (XSalsa20-Poly1305) under a key that scrypt derives from the
passphrase; its mode is 0600. The passphrase comes from the environment variable
`VALIDATOR_PASSPHRASE` or from a file, never from the command line.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl import pwhash, utils
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from protocol.codec import Digest, Record, decode, encode
from protocol.errors import DecodeError
from protocol.identity import ConsensusKey, Hotkey
from validator_node.errors import ConfigError
from validator_node.files import read_file, read_text

PASSPHRASE_VARIABLE = "VALIDATOR_PASSPHRASE"  # noqa: S105 - a name, not a secret
KEYSTORE_MAGIC = b"validator-keystore/1\n"
"""What a keystore begins with."""
_SALT_BYTES = pwhash.scrypt.SALTBYTES
_FILE_LIMIT = 4096
_STORAGE_KEY_INFO = b"validator-node storage key 1"
_ARTIFACT_KEY_INFO = b"validator-node artifact key 1"


class Seeds(Record):
    """Three independent 32-byte secrets."""

    hotkey: Digest
    consensus: Digest
    libp2p: Digest

    @classmethod
    def generate(cls) -> Seeds:
        """Return fresh random seeds."""
        return cls(hotkey=utils.random(32), consensus=utils.random(32), libp2p=utils.random(32))


@dataclass(frozen=True)
class Keys:
    """A node's keys, opened."""

    hotkey: Hotkey
    consensus: ConsensusKey
    libp2p_seed: bytes

    @classmethod
    def of(cls, seeds: Seeds) -> Keys:
        """Return the key pairs made from `seeds`."""
        return cls(Hotkey(seeds.hotkey), ConsensusKey(seeds.consensus), seeds.libp2p)

    @property
    def storage_key(self) -> bytes:
        """The key of 32 bytes for private data at rest (`storage.sealing`); never stored.

        HKDF-SHA256 of the libp2p seed: the hotkey and the consensus key may live in a remote
        signer, this seed is always here.
        """
        return self._derived(_STORAGE_KEY_INFO)

    @property
    def artifact_key(self) -> bytes:
        """The key of 32 bytes for the MAC over compiled modules (`runtime.artifact_cache`)."""
        return self._derived(_ARTIFACT_KEY_INFO)

    def _derived(self, info: bytes) -> bytes:
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(self.libp2p_seed)


def _box(passphrase: str, salt: bytes) -> SecretBox:
    key = pwhash.scrypt.kdf(
        SecretBox.KEY_SIZE,
        passphrase.encode(),
        salt,
        opslimit=pwhash.scrypt.OPSLIMIT_INTERACTIVE,
        memlimit=pwhash.scrypt.MEMLIMIT_INTERACTIVE,
    )
    return SecretBox(key)


def save_keystore(path: Path, seeds: Seeds, passphrase: str) -> None:
    """Write the keystore; `ConfigError` if the file exists, because keys are never overwritten."""
    salt = utils.random(_SALT_BYTES)
    data = KEYSTORE_MAGIC + salt + bytes(_box(passphrase, salt).encrypt(encode(seeds)))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ConfigError(f"{path} exists: a keystore is never overwritten") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def load_keystore(path: Path, passphrase: str) -> Keys:
    """Open the keystore; `ConfigError` says what is wrong with the file or the passphrase."""
    data = read_secret(path, "keystore", _FILE_LIMIT)
    if not data.startswith(KEYSTORE_MAGIC):
        raise ConfigError(f"{path} is not a validator keystore")
    salt, box = data[len(KEYSTORE_MAGIC) :][:_SALT_BYTES], data[len(KEYSTORE_MAGIC) + _SALT_BYTES :]
    try:
        return Keys.of(decode(Seeds, _box(passphrase, salt).decrypt(box)))
    except (CryptoError, DecodeError, ValueError) as error:
        raise ConfigError(f"{path}: wrong passphrase, or the file is damaged") from error


def read_secret(path: Path, what: str, limit_bytes: int) -> bytes:
    """Return the content of a file that nobody else may read. Raises `ConfigError`."""
    data = read_file(path, what, limit_bytes)
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{path} can be read by others: run chmod 600 {path}")
    return data


def passphrase(file: Path | None) -> str:
    """Return the passphrase from `file` or the environment. Raises `ConfigError`."""
    if file is not None:
        found = read_text(file, "passphrase file", _FILE_LIMIT).strip()
        if not found:
            raise ConfigError(f"passphrase file {file} is empty")
        return found
    value = os.environ.get(PASSPHRASE_VARIABLE)
    if not value:
        raise ConfigError(f"set {PASSPHRASE_VARIABLE} or passphrase_file in the configuration")
    if not _is_utf8(value):
        raise ConfigError(f"{PASSPHRASE_VARIABLE} is not UTF-8: use passphrase_file")
    return value


def _is_utf8(text: str) -> bool:
    """Return whether the environment's bytes were UTF-8; others come as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
