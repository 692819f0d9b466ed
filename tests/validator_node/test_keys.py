from __future__ import annotations

import hmac
import stat
from pathlib import Path

import pytest

from protocol.codec import sha256
from protocol.identity import ConsensusKey, Hotkey
from validator_node.errors import ConfigError
from validator_node.keys import (
    PASSPHRASE_VARIABLE,
    Keys,
    Seeds,
    load_keystore,
    passphrase,
    save_keystore,
)

SEEDS = Seeds(hotkey=sha256(b"1"), consensus=sha256(b"2"), libp2p=sha256(b"3"))
SECRET = "correct horse"


@pytest.fixture
def keystore(tmp_path: Path) -> Path:
    path = tmp_path / "keystore"
    save_keystore(path, SEEDS, SECRET)
    return path


def test_a_keystore_gives_its_keys_back(keystore: Path) -> None:
    keys = load_keystore(keystore, SECRET)
    assert keys.hotkey.public_key == Hotkey(SEEDS.hotkey).public_key
    assert keys.consensus.public_key == ConsensusKey(SEEDS.consensus).public_key
    assert keys.libp2p_seed == SEEDS.libp2p


def test_only_its_owner_can_read_it_and_nothing_shows(keystore: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE(keystore.stat().st_mode) == 0o600
    data = keystore.read_bytes()
    assert not any(seed in data for seed in (SEEDS.hotkey, SEEDS.consensus, SEEDS.libp2p))
    save_keystore(tmp_path / "again", SEEDS, SECRET)
    assert (tmp_path / "again").read_bytes() != data


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_keystore_that_others_can_read_is_refused(keystore: Path, mode: int) -> None:
    keystore.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_keystore(keystore, SECRET)


def test_a_keystore_is_never_overwritten(keystore: Path) -> None:
    before = keystore.read_bytes()
    with pytest.raises(ConfigError, match="never overwritten"):
        save_keystore(keystore, Seeds.generate(), SECRET)
    assert keystore.read_bytes() == before


def test_a_wrong_passphrase_opens_nothing(keystore: Path) -> None:
    for wrong in ("", "correct hors", SECRET + " "):
        with pytest.raises(ConfigError, match="wrong passphrase"):
            load_keystore(keystore, wrong)


@pytest.mark.parametrize("position", [25, 60, -1])
def test_a_damaged_keystore_opens_nothing(keystore: Path, position: int) -> None:
    data = bytearray(keystore.read_bytes())
    data[position] ^= 1
    keystore.write_bytes(data)
    with pytest.raises(ConfigError, match="damaged"):
        load_keystore(keystore, SECRET)


@pytest.mark.parametrize("size", [21, 40, 53, 80, -1])
def test_a_cut_keystore_opens_nothing(keystore: Path, size: int) -> None:
    keystore.write_bytes(keystore.read_bytes()[:size])
    with pytest.raises(ConfigError, match="damaged"):
        load_keystore(keystore, SECRET)


@pytest.mark.parametrize("data", [b"", b"{}", b"validator-keystore/2\n" + bytes(100), bytes(9999)])
def test_another_file_is_no_keystore(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.touch(mode=0o600)
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"(not a validator|is no) keystore"):
        load_keystore(path, SECRET)


def test_a_missing_keystore(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_keystore(tmp_path / "missing", SECRET)


def test_fresh_seeds_are_independent() -> None:
    first, second = Seeds.generate(), Seeds.generate()
    seeds = [first.hotkey, first.consensus, first.libp2p]
    seeds += [second.hotkey, second.consensus, second.libp2p]
    assert len(set(seeds)) == 6
    assert {len(seed) for seed in seeds} == {32}
    assert Keys.of(first).libp2p_seed == first.libp2p


def test_the_passphrase_comes_from_the_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "passphrase"
    file.write_text("from file\n")
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "from environment")
    assert passphrase(file) == "from file"
    assert passphrase(None) == "from environment"
    with pytest.raises(ConfigError, match="passphrase file"):
        passphrase(tmp_path / "missing")
    for value in ("", None):
        if value is None:
            monkeypatch.delenv(PASSPHRASE_VARIABLE)
        else:
            monkeypatch.setenv(PASSPHRASE_VARIABLE, value)
        with pytest.raises(ConfigError, match=PASSPHRASE_VARIABLE):
            passphrase(None)


def test_an_empty_passphrase_file_protects_nothing(tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.write_text("\n")
    with pytest.raises(ConfigError, match="empty"):
        passphrase(file)


def test_the_storage_key_follows_from_the_libp2p_seed_alone(keystore: Path) -> None:
    key = load_keystore(keystore, SECRET).storage_key
    # RFC 5869 by hand: extract with a salt of zeros, then one block of expansion.
    extracted = hmac.digest(bytes(32), SEEDS.libp2p, "sha256")
    assert key == hmac.digest(extracted, b"validator-node storage key 1\x01", "sha256")
    other = Seeds(hotkey=sha256(b"4"), consensus=sha256(b"5"), libp2p=SEEDS.libp2p)
    assert Keys.of(other).storage_key == key
    assert Keys.of(Seeds.generate()).storage_key != key
    assert key not in keystore.read_bytes()
    assert key.hex() not in repr(load_keystore(keystore, SECRET))
