"""The unmodified SDK against the running chain: what it reads, sets, is refused, and survives."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from chain.devchain.server import open_devchain
from tests.chain.devchain.sdk import (
    Wallet,
    refused,
    result,
    set_weights,
    with_sdk,
)
from tests.chain.devchain.support import (
    ADDRESSES,
    DRAND_ROUND,
    DRAND_SIGNATURE,
    KEYS,
    NETUID,
    run_config,
    sealed_commit,
    signed,
    subnet,
)

pytestmark = pytest.mark.usefixtures("sdk_home")


async def test_the_sdk_connects_and_reads_the_metagraph():
    def read(sdk: Any) -> Any:
        return sdk.block, sdk.spec_version, sdk.subnets.metagraph(NETUID)

    async with open_devchain(subnet(), run_config()) as chain:
        block, spec, graph = await with_sdk(chain, read)
    assert (block >= 0, spec) == (True, 461)
    assert [one.hotkey for one in graph] == ADDRESSES[:5]
    assert all(one.validator_permit and one.last_update == 0 for one in graph)
    assert [one.total_stake.rao for one in graph] == [1000] * 5
    assert graph.owner_hotkey == ADDRESSES[4]


async def test_every_read_that_the_node_needs_is_answered():
    names = [
        "epoch_status",
        "weights_rate_limit",
        "commit_reveal_enabled",
        "mechanism_count",
        "timelocked_weight_commits",
        "subnet_hyperparameters",
        "weights",
    ]

    def read(sdk: Any) -> Any:
        return {name: sdk.read(name, netuid=NETUID) for name in names}

    async with open_devchain(subnet(mechanisms=3), run_config()) as chain:
        answers = await with_sdk(chain, read)
    assert answers["epoch_status"]["tempo"] == 10
    epoch = answers["epoch_status"]
    assert epoch["next_epoch_start_block"] == epoch["last_epoch_block"] + 10
    assert epoch["seconds_remaining"] == pytest.approx(epoch["blocks_remaining"] * 0.02)
    assert answers["weights_rate_limit"] == 1
    assert answers["commit_reveal_enabled"] is False
    assert answers["mechanism_count"] == 3
    assert answers["timelocked_weight_commits"] == {}
    assert answers["subnet_hyperparameters"]["tempo"] == 10
    assert answers["weights"] == {}


@pytest.mark.parametrize("mechanism", [0, 1])
async def test_plain_weights_are_set_and_read_back(mechanism):
    def work(sdk: Any) -> Any:
        done = set_weights(1, {0: 0.5, 2: 1.0}, mechid=mechanism)(sdk)
        at = sdk.block
        return done, at, sdk.read("weights", netuid=NETUID, mechid=mechanism)

    async with open_devchain(subnet(mechanisms=2), run_config()) as chain:
        done, at, weights = await with_sdk(chain, work)
        state = chain.ledger.head.state
    assert done.success
    assert weights == {1: {0: 32768 / 98303, 2: 65535 / 98303}}
    assert state.weights_of(1, mechanism) == ((0, 32768), (2, 65535))
    assert 0 < state.last_update(1, mechanism) <= at
    assert state.last_update(1, 1 - mechanism) == 0


async def test_four_validators_at_once_store_four_equal_vectors():
    async with open_devchain(subnet(), run_config()) as chain:
        async with trio.open_nursery() as nursery:
            for who in range(4):
                nursery.start_soon(with_sdk, chain, set_weights(who, {0: 1, 2: 3, 3: 2}))
        state = chain.ledger.head.state
    stored = {state.weights_of(uid, 0) for uid in range(4)}
    assert stored == {((0, 21845), (2, 65535), (3, 43690))}


async def test_the_sdks_own_commit_is_included():
    def work(sdk: Any) -> Any:
        done = set_weights(1, {0: 0.5, 2: 1.0})(sdk)
        return done, sdk.read("timelocked_weight_commits", netuid=NETUID)

    async with open_devchain(subnet(commit_reveal=True, tempo=1000), run_config()) as chain:
        done, pending = await with_sdk(chain, work)
    assert done.success
    (commit,) = pending[0]
    assert commit["hotkey"] == ADDRESSES[1]
    assert commit["reveal_round"] == done.data["reveal_round"] > 30_000_000


async def test_a_revealed_commit_is_read_back():
    """The SDK cannot seal for a past round, so the commit is made by hand and read by the SDK."""
    async with open_devchain(subnet(commit_reveal=True), run_config()) as chain:
        data = signed(
            chain.ledger,
            1,
            "commit_timelocked_mechanism_weights",
            mecid=0,
            commit=sealed_commit(1, [0, 2], [1000, 2000]),
            reveal_round=DRAND_ROUND,
            commit_reveal_version=4,
        )
        chain.ledger.submit(data)
        chain.call("dev_jump", 1)
        chain.call("dev_pulse", DRAND_ROUND, DRAND_SIGNATURE)
        chain.call("dev_jump", 10)
        weights = await with_sdk(chain, lambda sdk: sdk.read("weights", netuid=NETUID))
    assert weights == {1: {0: 32768 / 98303, 2: 65535 / 98303}}


REFUSALS: list[tuple[str, str, str, list[object], dict[str, Any]]] = [
    ("WeightVecLengthIsLow", "INVALID_ARGUMENT", "dev_rule", ["min_allowed_weights", 4], {}),
    ("MechanismDoesNotExist", "SUBNET_NOT_EXISTS", "dev_rule", ["tempo", 10], {"mechid": 1}),
    ("NotEnoughStakeToSetWeights", "INSUFFICIENT_BALANCE", "dev_rule", ["min_stake", 5000], {}),
    ("IncorrectWeightVersionKey", "INVALID_ARGUMENT", "dev_rule", ["version_key", 5], {}),
    ("NeuronNoValidatorPermit", "NOT_AUTHORIZED", "dev_permit", [ADDRESSES[1], False], {}),
    ("UidVecContainInvalidOne", "INVALID_ARGUMENT", "dev_rule", ["tempo", 10], {"uid": 5}),
    ("HotKeyNotRegisteredInSubNet", "NOT_REGISTERED", "dev_deregister", [ADDRESSES[1]], {}),
]


@pytest.mark.parametrize(
    ("name", "code", "knob", "arguments", "options"), REFUSALS, ids=[one[0] for one in REFUSALS]
)
async def test_each_refusal_has_the_sdks_code(name, code, knob, arguments, options):
    options = dict(options)
    weights = {0: 1.0, options.pop("uid", 2): 1.0}
    async with open_devchain(subnet(), run_config()) as chain:
        chain.call("dev_set", "pool_checks", False)
        chain.call(knob, *arguments)
        error = await refused(chain, set_weights(1, weights, **options))
    assert error.code is result.ErrorCode[code]
    if name not in ("WeightVecLengthIsLow", "HotKeyNotRegisteredInSubNet"):
        assert error.name == name  # the SDK sees the other two before it signs


COMMIT = {"mecid": 0, "commit": b"\xff", "reveal_round": 1 << 40, "commit_reveal_version": 4}
TIMELOCKED = "commit_timelocked_mechanism_weights"
BY_HAND: list[tuple[str, str, str, dict[str, Any], dict[str, Any]]] = [
    ("WeightVecNotEqualSize", "INVALID_ARGUMENT", "set_weights", {"dests": [0, 1]}, {}),
    (
        "UidsLengthExceedUidsInSubNet",
        "LIMIT_EXCEEDED",
        "set_weights",
        {"dests": [0] * 6, "weights": [1] * 6},
        {},
    ),
    ("SettingWeightsTooFast", "RATE_LIMITED", "set_weights", {}, {"weights_rate_limit": 1000}),
    (
        "DuplicateUids",
        "INVALID_ARGUMENT",
        "set_weights",
        {"dests": [2, 2], "weights": [1, 1]},
        {},
    ),
    (
        "MaxWeightExceeded",
        "LIMIT_EXCEEDED",
        "set_weights",
        {"dests": [0, 2], "weights": [60000, 1]},
        {"max_weight_limit": 40000},
    ),
    ("CommitRevealEnabled", "DISABLED", "set_weights", {}, {"commit_reveal": True}),
    ("CommitRevealDisabled", "DISABLED", TIMELOCKED, COMMIT, {}),
    (
        "CommittingWeightsTooFast",
        "RATE_LIMITED",
        TIMELOCKED,
        COMMIT,
        {"commit_reveal": True, "weights_rate_limit": 1000},
    ),
    (
        "IncorrectCommitRevealVersion",
        "INVALID_ARGUMENT",
        TIMELOCKED,
        {**COMMIT, "commit_reveal_version": 3},
        {"commit_reveal": True},
    ),
]


@pytest.mark.parametrize(
    ("name", "code", "function", "arguments", "rules"), BY_HAND, ids=[one[0] for one in BY_HAND]
)
async def test_refusals_in_a_block_have_the_sdks_code(name, code, function, arguments, rules):
    """Composed by hand, because the SDK's own intents cannot be so wrong."""
    plain = {"dests": [0], "weights": [1], "version_key": 0} if function == "set_weights" else {}
    arguments = {"netuid": NETUID, **plain, **arguments}

    def work(sdk: Any) -> Any:
        call = ("SubtensorModule", function, arguments)
        return sdk.submit_call(call, Wallet(1), signer="hotkey")

    async with open_devchain(subnet(**rules), run_config()) as chain:
        chain.call("dev_set", "pool_checks", False)
        if name.endswith("TooFast"):
            chain.ledger.submit(signed(chain.ledger, 1, function, **arguments))
            chain.call("dev_jump", 1)
            assert chain.ledger.head.state.last_update(1, 0) > 0
        error = await refused(chain, work)
    assert (error.name, error.code) == (name, result.ErrorCode[code])


async def test_the_eleventh_commit_of_an_epoch_is_refused_by_name():
    rules = {"commit_reveal": True, "weights_rate_limit": 0, "tempo": 10_000}

    def work(sdk: Any) -> Any:
        call = ("SubtensorModule", TIMELOCKED, {"netuid": NETUID, **COMMIT})
        return sdk.submit_call(call, Wallet(1), signer="hotkey")

    async with open_devchain(subnet(**rules), run_config()) as chain:
        for _ in range(10):
            chain.ledger.submit(signed(chain.ledger, 1, TIMELOCKED, **COMMIT))
        chain.call("dev_jump", 1)
        error = await refused(chain, work)
    assert (error.name, error.code) == (
        "TooManyUnrevealedCommits",
        result.ErrorCode.LIMIT_EXCEEDED,
    )


async def test_the_rate_limit_is_seen_by_the_sdk_before_it_signs():
    def work(sdk: Any) -> Any:
        assert set_weights(1, {0: 1.0})(sdk).success
        return set_weights(1, {0: 1.0})(sdk)

    async with open_devchain(subnet(weights_rate_limit=1000), run_config()) as chain:
        error = await refused(chain, work)
        nonce = chain.ledger.next_nonce(KEYS[1])
    assert error.code is result.ErrorCode.RATE_LIMITED
    assert nonce == 1


@pytest.mark.parametrize(
    ("rules", "function", "code"),
    [
        ({"min_stake": 5000}, "set_weights", "LIMIT_EXCEEDED"),
        ({"weights_rate_limit": 1000}, "set_weights", "RATE_LIMITED"),
        ({"commit_reveal": True}, "reveal_weights", "NOT_FOUND"),
    ],
)
async def test_refusals_of_the_pool_have_the_sdks_code(rules, function, code):
    """Composed by hand, because the SDK's own preflight would not let them through."""
    arguments: dict[str, Any] = {"netuid": NETUID, "version_key": 0}
    if function == "set_weights":
        arguments |= {"dests": [0], "weights": [1]}
    else:
        arguments |= {"uids": [0], "values": [1], "salt": [1]}

    def work(sdk: Any) -> Any:
        call = ("SubtensorModule", function, arguments)
        return sdk.submit_call(call, Wallet(1), signer="hotkey")

    async with open_devchain(subnet(**rules), run_config()) as chain:
        if "weights_rate_limit" in rules:
            chain.ledger.submit(signed(chain.ledger, 1))
            chain.call("dev_jump", 1)
        error = await refused(chain, work)
    assert error.code is result.ErrorCode[code]
