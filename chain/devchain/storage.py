"""The state as the storage of the live chain: keys and values. Pure.

Rules:
1. Only what the SDK and the node read is here; a key that is missing reads as the default that
   the metadata gives, which is right for a young subnet without economy.
2. The subnet exists beside the root subnet (0), which has no neurons.
"""

from __future__ import annotations

from collections.abc import Iterator

from chain.devchain.metadata import PALLET, SPEC_NAME, SPEC_VERSION, Codec
from chain.devchain.state import State
from protocol.identity import ss58_of

Entry = tuple[str, str, tuple[object, ...], object]
"""Pallet, item, the item's keys, and its value."""


def storage_of(state: State, codec: Codec, events: bytes, parent_hash: bytes) -> dict[bytes, bytes]:
    """Return the whole storage after a block; `events` are the block's, encoded."""
    values = {
        codec.key(pallet, item, *keys): codec.value(pallet, item, value)
        for pallet, item, keys, value in _entries(state, parent_hash)
    }
    values[codec.key("System", "Events")] = events
    return values


def _entries(state: State, parent_hash: bytes) -> Iterator[Entry]:
    yield "System", "Number", (), state.block
    yield "System", "ParentHash", (), "0x" + parent_hash.hex()
    upgrade = {"spec_version": SPEC_VERSION, "spec_name": SPEC_NAME}
    yield "System", "LastRuntimeUpgrade", (), upgrade
    yield "Timestamp", "Now", (), state.timestamp_ms
    if state.pulses:
        yield "Drand", "LastStoredRound", (), max(pulse.round for pulse in state.pulses)
    yield from _accounts(state)
    yield from (_item(name, (state.netuid,), value) for name, value in _subnet_items(state))
    yield _item("StakeThreshold", (), state.rules.min_stake)
    yield _item("CommitRevealWeightsVersion", (), state.rules.commit_reveal_version)
    yield _item("TotalNetworks", (), 2)
    yield _item("NetworksAdded", (0,), True)
    yield from _neurons(state)
    yield from _mechanisms(state)


def _item(name: str, keys: tuple[object, ...], value: object) -> Entry:
    return PALLET, name, keys, value


def _subnet_items(state: State) -> Iterator[tuple[str, object]]:
    rules, epochs = state.rules, state.epochs
    yield "NetworksAdded", True
    yield "SubnetOwner", ss58_of(state.owner_coldkey)
    yield "SubnetOwnerHotkey", ss58_of(state.owner_hotkey)
    yield "SubnetworkN", len(state.neurons)
    yield "TokenSymbol", list("β".encode())
    yield "Tempo", rules.tempo
    yield "WeightsSetRateLimit", rules.weights_rate_limit
    yield "WeightsVersionKey", rules.version_key
    yield "MinAllowedWeights", rules.min_allowed_weights
    yield "MaxWeightsLimit", rules.max_weight_limit
    yield "CommitRevealWeightsEnabled", rules.commit_reveal
    yield "RevealPeriodEpochs", rules.reveal_period
    yield "MechanismCountCurrent", rules.mechanisms
    yield "SubnetEpochConsensus", rules.epoch_consensus
    yield "LastEpochBlock", epochs.last_block
    yield "PendingEpochAt", epochs.pending_at
    yield "SubnetEpochIndex", epochs.index
    yield "BlocksSinceLastStep", epochs.blocks_since_step
    yield "ValidatorPermit", [one.validator_permit for one in state.neurons]
    yield "Active", [True for _ in state.neurons]


def _accounts(state: State) -> Iterator[Entry]:
    for account in state.accounts:
        info = {
            "nonce": account.nonce,
            "consumers": 0,
            "providers": 1,
            "sufficients": 0,
            "data": {"free": 0, "reserved": 0, "frozen": 0, "flags": 1 << 127},
        }
        yield "System", "Account", (ss58_of(account.key),), info
        if account.alpha_stake:
            keys = (ss58_of(account.key), state.netuid)
            yield _item("TotalHotkeyAlpha", keys, account.alpha_stake)


def _neurons(state: State) -> Iterator[Entry]:
    for uid, one in enumerate(state.neurons):
        hotkey = ss58_of(one.hotkey)
        yield _item("Keys", (state.netuid, uid), hotkey)
        yield _item("Uids", (state.netuid, hotkey), uid)
        yield _item("Owner", (hotkey,), ss58_of(one.coldkey))
        yield _item("IsNetworkMember", (hotkey, state.netuid), True)
        yield _item("BlockAtRegistration", (state.netuid, uid), one.registered_at)


def _mechanisms(state: State) -> Iterator[Entry]:
    for mechanism in range(max(state.rules.mechanisms, len(state.updates))):
        updates = [state.last_update(uid, mechanism) for uid in range(len(state.neurons))]
        yield _item("LastUpdate", (state.storage_index(mechanism),), updates)
    for row in state.weights:
        keys = (state.storage_index(row.mechanism), row.uid)
        yield _item("Weights", keys, list(row.vector))
    for mechanism, epoch in {(one.mechanism, one.epoch) for one in state.commits}:
        queue = [
            (ss58_of(one.hotkey), one.block, one.ciphertext, one.reveal_round)
            for one in state.commits
            if (one.mechanism, one.epoch) == (mechanism, epoch)
        ]
        yield _item("TimelockedWeightCommits", (state.storage_index(mechanism), epoch), queue)
    for mechanism, hotkey in {(one.mechanism, one.hotkey) for one in state.hash_commits}:
        hashes = [
            ("0x" + one.digest.hex(), one.epoch, one.block, 0)
            for one in state.hash_commits
            if (one.mechanism, one.hotkey) == (mechanism, hotkey)
        ]
        yield _item("WeightCommits", (state.storage_index(mechanism), ss58_of(hotkey)), hashes)
