"""The state as storage: every value read back with the codec, under the live chain's keys."""

from __future__ import annotations

from typing import Any

from chain.devchain import changes
from chain.devchain.metadata import PALLET
from chain.devchain.state import HashCommit, State, TimelockedCommit, WeightRow
from chain.devchain.storage import storage_of
from tests.chain.devchain.support import ADDRESSES, KEYS, NETUID, STAKE, codec, genesis

SECOND = 4096 + NETUID


def full_state() -> State:
    state = genesis(mechanisms=2, tempo=99, commit_reveal=True)
    state = state.with_weights(WeightRow(mechanism=1, uid=3, vector=((0, 1), (2, 65535))))
    state = state.with_update(3, 1, 77)
    state = changes.with_pulse(state, 1000, b"\x01" * 48)
    sealed = TimelockedCommit(
        mechanism=1, epoch=4, hotkey=KEYS[1], block=9, ciphertext=b"\xff\x00", reveal_round=1234
    )
    hashed = HashCommit(mechanism=0, epoch=4, hotkey=KEYS[2], block=8, digest=b"\x07" * 32)
    return State(
        **{
            **{name: getattr(state, name) for name in State.__struct_fields__},
            "commits": (sealed, sealed),
            "hash_commits": (hashed,),
        }
    )


def read(item: str, *keys: object, pallet: str = PALLET) -> Any:
    runtime = codec().runtime
    values = storage_of(full_state(), codec(), b"\x00", b"\x05" * 32)
    entry = runtime.storage_entry(pallet, item)
    raw = values.get(bytes(runtime.storage_key(pallet, item, list(keys))))
    return None if raw is None else runtime.decode(entry.value_type, raw)


def test_the_subnet_is_where_the_sdk_looks():
    assert read("Tempo", NETUID) == 99
    assert read("SubnetOwnerHotkey", NETUID) == ADDRESSES[4]
    assert read("MechanismCountCurrent", NETUID) == 2
    assert read("CommitRevealWeightsEnabled", NETUID) is True
    assert read("NetworksAdded", NETUID) is True
    assert read("SubnetworkN", NETUID) == 5
    assert read("ValidatorPermit", NETUID) == [True] * 5
    assert read("StakeThreshold") == 0


def test_neurons_are_found_both_ways():
    assert read("Keys", NETUID, 3) == ADDRESSES[3]
    assert read("Uids", NETUID, ADDRESSES[3]) == 3
    assert read("Uids", NETUID, ADDRESSES[6]) is None
    assert read("TotalHotkeyAlpha", ADDRESSES[3], NETUID) == STAKE


def test_a_mechanism_is_part_of_the_index():
    assert read("Weights", SECOND, 3) == [(0, 1), (2, 65535)]
    assert read("Weights", NETUID, 3) is None
    assert read("LastUpdate", SECOND) == [0, 0, 0, 77, 0]
    assert read("LastUpdate", NETUID) == [0] * 5


def test_commits_are_queued_under_their_epoch():
    one = (ADDRESSES[1], 9, "0xff00", 1234)
    assert read("TimelockedWeightCommits", SECOND, 4) == [one, one]
    assert read("TimelockedWeightCommits", NETUID, 4) is None
    assert read("WeightCommits", NETUID, ADDRESSES[2]) == [("0x" + "07" * 32, 4, 8, 0)]


def test_the_system_is_there():
    assert read("Account", ADDRESSES[0], pallet="System")["nonce"] == 0
    assert read("ParentHash", pallet="System") == "0x" + "05" * 32
    assert read("Events", pallet="System") == []
    assert read("LastStoredRound", pallet="Drand") == 1000
