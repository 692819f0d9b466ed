"""What people write becomes the state of block 0, or is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from chain.devchain.config import NeuronConfig, SubnetConfig, genesis_state, load_subnet
from chain.devchain.errors import DevChainError
from tests.chain.devchain.support import ADDRESSES, KEYS, NETUID, NEWCOMER, genesis

FILE = f"""
netuid = 12
owner = "{ADDRESSES[2]}"
[rules]
commit_reveal = false
tempo = 20
[[neurons]]
hotkey = "{ADDRESSES[0]}"
coldkey = "{ADDRESSES[1]}"
stake = 5
root_stake = 6
validator_permit = true
[[neurons]]
hotkey = "{ADDRESSES[2]}"
"""


def write(path: Path, text: str) -> Path:
    file = path / "subnet.toml"
    file.write_text(text)
    return file


def test_a_file_says_everything(tmp_path):
    state = genesis_state(load_subnet(write(tmp_path, FILE)), 500)
    assert (state.netuid, state.block_time_ms, state.owner_hotkey) == (12, 500, KEYS[2])
    assert (state.rules.tempo, state.rules.commit_reveal) == (20, False)
    assert [one.hotkey for one in state.neurons] == [KEYS[0], KEYS[2]]
    assert state.neurons[0].coldkey == KEYS[1]
    assert state.stake_of(KEYS[0]) == 11
    assert state.account(KEYS[1]) is not None


def test_accounts_and_defaults():
    state = genesis()
    assert state.netuid == NETUID
    assert state.account(KEYS[NEWCOMER]) is not None
    assert state.uid_of(KEYS[NEWCOMER]) is None
    assert state.owner_coldkey == KEYS[4]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("netuid = 12", "netuid = 0", "netuid: Input should be greater"),
        ("stake = 5", "stake = -5", "neurons.0.stake"),
        ("netuid = 12", "netuid = ", "subnet.toml"),
        ("owner =", "boss =", "boss: Extra inputs"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, old, new, text):
    with pytest.raises(DevChainError, match=text):
        load_subnet(write(tmp_path, FILE.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("tempo = 20", "speed = 20", "no hyperparameter 'speed'"),
        (ADDRESSES[1], "5nonsense", "'5nonsense' is not an ss58 address"),
        (ADDRESSES[2], ADDRESSES[0], "2 neurons, 1 different hotkeys"),
    ],
)
def test_a_subnet_that_makes_no_sense_is_refused(tmp_path, old, new, text):
    subnet = load_subnet(write(tmp_path, FILE.replace(old, new)))
    with pytest.raises(DevChainError, match=text):
        genesis_state(subnet, 1000)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DevChainError, match=r"nowhere\.toml"):
        load_subnet(tmp_path / "nowhere.toml")


def test_different_subnets_have_different_genesis_hashes():
    one = SubnetConfig(neurons=(NeuronConfig(hotkey=ADDRESSES[0]),))
    assert genesis_state(one, 1000) != genesis_state(one, 2000)
