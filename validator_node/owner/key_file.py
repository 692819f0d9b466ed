"""The owner's hotkey, from a file: a keystore, a Bittensor hotkey, or a bare seed.

| file | how it is told |
|---|---|
| a validator's keystore | its first bytes; needs the passphrase |
| an unencrypted hotkey of a Bittensor wallet | JSON with `secretSeed` |
| a seed | 64 hexadecimal digits, with or without `0x` |

Nobody but its owner may be able to read the file. What it holds is never part of an error.
"""

from __future__ import annotations

import json
from pathlib import Path

from protocol.identity import Hotkey
from validator_node.errors import ConfigError
from validator_node.keys import KEYSTORE_MAGIC, load_keystore, passphrase, read_secret

_ENCRYPTED = (b"$NACL", b"$ANSIBLE_VAULT", b"gAAAAA")
"""How wallets of the Bittensor SDK begin that have a password: its own, and two older ones."""
_FILE_LIMIT = 16_384


def load_owner_key(path: Path, passphrase_file: Path | None) -> Hotkey:
    """Open the hotkey in `path`. Raises `ConfigError`, which says what is wrong with the file."""
    data = read_secret(path, "key", _FILE_LIMIT)
    if data.startswith(KEYSTORE_MAGIC):
        return load_keystore(path, passphrase(passphrase_file)).hotkey
    if data.lstrip().startswith(b"{"):
        return _wallet_hotkey(path, data)
    if data.startswith(_ENCRYPTED):
        raise ConfigError(
            f"key {path}: is an encrypted key of a Bittensor wallet, which this command cannot "
            "open; make the hotkey's file without a password from its mnemonic: "
            "`btcli wallet regen-hotkey --no-use-password`"
        )
    return Hotkey(_seed(path, data.decode(errors="replace").strip()))


def _wallet_hotkey(path: Path, data: bytes) -> Hotkey:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise ConfigError(f"key {path}: found damaged JSON; expected a wallet's hotkey") from None
    seed = content.get("secretSeed")
    if not isinstance(seed, str):
        raise ConfigError(f"key {path}: {_seedless(content)}")
    hotkey = Hotkey(_seed(path, seed))
    address = content.get("ss58Address", hotkey.address)
    if address != hotkey.address:
        raise ConfigError(f"key {path}: its seed belongs to {hotkey.address}, not to {address}")
    return hotkey


def _seedless(content: dict[str, object]) -> str:
    """Return what a wallet's file without a seed is, and what to do."""
    if content.get("secretPhrase"):
        return (
            "has a mnemonic and no secretSeed; make the file anew from it: "
            "`btcli wallet regen-hotkey --no-use-password`"
        )
    if content.get("privateKey"):
        return (
            "has a private key and no secretSeed, as of a key derived by a path (//name); its seed "
            "cannot be found from it, so use a hotkey that was made from a mnemonic or a seed"
        )
    if content.get("publicKey") or content.get("ss58Address"):
        return "is the public half of a key, with no secretSeed; name the hotkey's own file"
    return "found no secretSeed; expected the hotkey file of a Bittensor wallet"


def _seed(path: Path, text: str) -> bytes:
    try:
        seed = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        seed = b""
    if len(seed) != 32:
        raise ConfigError(
            f"key {path}: expected a keystore, an unencrypted Bittensor hotkey file, or a seed of "
            "64 hexadecimal digits"
        )
    return seed
