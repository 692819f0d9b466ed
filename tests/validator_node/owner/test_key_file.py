"""Every form in which the owner's hotkey may lie in a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from protocol.identity import Hotkey
from validator_node.errors import ConfigError
from validator_node.keys import Seeds, save_keystore
from validator_node.owner.key_file import load_owner_key

SEED = bytes(range(32))
KEY = Hotkey(SEED)


def written(folder: Path, content: str, mode: int = 0o600) -> Path:
    path = folder / "key"
    path.touch(mode)
    path.write_text(content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        SEED.hex(),
        f"0x{SEED.hex()}\n",
        json.dumps({"secretSeed": f"0x{SEED.hex()}", "ss58Address": KEY.address}),
        json.dumps({"accountId": "0x00", "secretSeed": SEED.hex()}),
    ],
)
def test_seeds_and_wallets_are_read(tmp_path: Path, content: str) -> None:
    assert load_owner_key(written(tmp_path, content), None).public_key == KEY.public_key


def test_a_keystore_is_opened_with_its_passphrase(tmp_path: Path) -> None:
    path, secret = tmp_path / "keystore", tmp_path / "passphrase"
    seeds = Seeds(hotkey=SEED, consensus=bytes(32), libp2p=bytes(32))
    save_keystore(path, seeds, "a good one")
    secret.write_text("a good one\n")
    assert load_owner_key(path, secret).public_key == KEY.public_key
    secret.write_text("a bad one")
    with pytest.raises(ConfigError, match="wrong passphrase"):
        load_owner_key(path, secret)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "expected a keystore"),
        (SEED.hex()[:-2], "64 hexadecimal digits"),
        ("{", "damaged JSON"),
        ("{}", "no secretSeed"),
        (json.dumps({"secretSeed": None}), "no secretSeed"),
        (json.dumps({"publicKey": "0x00", "ss58Address": "5"}), "is the public half of a key"),
        (json.dumps({"privateKey": "0x00", "publicKey": "0x00"}), "derived by a path"),
        (json.dumps({"secretPhrase": "a b c", "privateKey": "0x"}), "has a mnemonic and no secret"),
        ("$NACL" + "x" * 60, "is an encrypted key of a Bittensor wallet"),
        ("$ANSIBLE_VAULT;1.1;AES256", "is an encrypted key of a Bittensor wallet"),
        ("gAAAAABk" + "x" * 60, "is an encrypted key of a Bittensor wallet"),
        (json.dumps({"secretSeed": "0x12"}), "64 hexadecimal digits"),
        (json.dumps({"secretSeed": SEED.hex(), "ss58Address": "5Other"}), "not to 5Other"),
    ],
)
def test_what_is_no_key_is_told_without_its_content(
    tmp_path: Path, content: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        load_owner_key(written(tmp_path, content), None)
    assert SEED.hex()[:16] not in str(caught.value)


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = written(tmp_path, SEED.hex())
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_owner_key(path, None)
    with pytest.raises(ConfigError, match="No such file"):
        load_owner_key(tmp_path / "none", None)
