from __future__ import annotations

from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from chain.embedded import ChainGenesis, EmbeddedChain
from chain.errors import ChainError
from chain.errors import ChainErrorCode as Code
from chain.interface import Chain, EpochStatus
from chain.weights_call import WeightsCall
from tests.chain.support import (
    ALICE,
    BOB,
    CAROL,
    OTHER,
    STRANGER,
    VECTOR,
    Hotkey,
    Subnet,
    genesis,
    neuron,
)


def call_of(chain: EmbeddedChain, **changes: object) -> WeightsCall:
    call = WeightsCall(
        genesis=chain.genesis.digest,
        netuid=chain.genesis.netuid,
        mechanism=0,
        version_key=0,
        uids=(0, 2),
        values=(1, 3),
        nonce=0,
    )
    return replace(call, **changes)


async def refused(chain: EmbeddedChain, key: Hotkey, call: WeightsCall) -> ChainError:
    with pytest.raises(ChainError) as caught:
        await chain.include(call, key.public_key, key.sign(call.signing_payload))
    return caught.value


@pytest.mark.trio
async def test_blocks_and_epochs_follow_the_clock(subnet: Subnet):
    chain: Chain = subnet.chain(start_ms=5000)
    for now_ms, number in [(0, 0), (5000, 0), (5999, 0), (6000, 1), (17500, 12)]:
        subnet.clock.now_ms = now_ms
        assert (await chain.head()).number == number
    assert await chain.epoch_status(9) == EpochStatus(0, 0, 10)
    assert await chain.epoch_status(12) == EpochStatus(1, 10, 20)
    assert await chain.weights_rate_limit() == 5


@pytest.mark.trio
async def test_every_process_sees_the_same_hashes_and_each_genesis_its_own(subnet: Subnet):
    subnet.clock.to_block(3)
    head = await subnet.chain().head()
    assert await subnet.chain().head() == head
    assert (await subnet.chain(netuid=8).head()).block_hash != head.block_hash
    subnet.clock.to_block(4)
    assert (await subnet.chain().head()).block_hash != head.block_hash


@pytest.mark.trio
@pytest.mark.parametrize("number", [-1, 4])
async def test_blocks_that_are_not_known_are_named(subnet: Subnet, number: int):
    chain = subnet.chain()
    subnet.clock.to_block(3)
    for read in (chain.metagraph, chain.epoch_status):
        with pytest.raises(ChainError, match=f"unknown_block: block {number}, the head is 3"):
            await read(number)


@pytest.mark.trio
async def test_weights_are_stored_upscaled_and_read_back_by_another_process(subnet: Subnet):
    subnet.clock.to_block(12)
    submitted = await subnet.chain().set_weights(BOB, ((0, 1), (2, 3)))
    assert submitted.block.number == 12
    other = subnet.chain()
    assert await other.weights_of(1) == ((0, 21845), (2, 65535))
    assert await other.weights_of(0) == ()
    assert await other.last_update_of(1) == 12
    [entry] = await other.history()
    assert (entry.epoch, entry.block, entry.hotkey) == (1, 12, BOB.public_key.hex())
    assert entry.vector == VECTOR


@pytest.mark.trio
async def test_the_metagraph_is_that_of_its_block(subnet: Subnet):
    chain = subnet.chain(owner_hotkey=CAROL.public_key, min_stake=7)
    for number in (12, 20, 30):
        subnet.clock.to_block(number)
        await chain.set_weights(BOB, VECTOR)
    for number, last_update in [(11, 0), (12, 12), (19, 12), (20, 20), (30, 30)]:
        graph = await chain.metagraph(number)
        assert graph.block.number == number
        assert [one.last_update for one in graph.neurons] == [0, last_update, 0, 0]
    assert graph.owner is graph.by_uid(2)
    assert graph.rules.min_stake == 7


@pytest.mark.trio
async def test_mechanisms_have_their_own_weights_and_rate_limits(subnet: Subnet):
    chain = subnet.chain(mechanisms=2)
    subnet.clock.to_block(1)
    await chain.set_weights(ALICE, VECTOR)
    await chain.set_weights(ALICE, OTHER, mechanism=1)
    assert await chain.weights_of(0) == VECTOR
    assert await chain.weights_of(0, 1) == OTHER
    with pytest.raises(ChainError, match="MechanismDoesNotExist: mechanism 2, subnet 7 has 2"):
        await chain.set_weights(ALICE, OTHER, mechanism=2)


@pytest.mark.trio
async def test_the_rate_limit_ends_after_its_blocks(subnet: Subnet):
    chain = subnet.chain()
    subnet.clock.to_block(10)
    await chain.set_weights(ALICE, VECTOR)
    subnet.clock.to_block(14)
    with pytest.raises(ChainError) as caught:
        await chain.set_weights(ALICE, OTHER)
    assert (caught.value.code, caught.value.wait_blocks) == (Code.SETTING_WEIGHTS_TOO_FAST, 1)
    assert await chain.weights_of(0) == VECTOR
    subnet.clock.to_block(15)
    await chain.set_weights(ALICE, OTHER)
    assert await chain.weights_of(0) == OTHER


@dataclass
class Fault:
    code: Code
    call: dict[str, object]
    genesis: dict[str, object]
    key: Hotkey = ALICE


UNPERMITTED = (neuron(ALICE, permit=False), neuron(BOB), neuron(CAROL))
FAULTS = [
    Fault(Code.WEIGHT_VEC_NOT_EQUAL_SIZE, {"uids": (0, 1, 2)}, {}),
    Fault(Code.MECHANISM_DOES_NOT_EXIST, {"mechanism": 1}, {}),
    Fault(Code.UIDS_LENGTH_EXCEED_UIDS_IN_SUBNET, {"uids": (0,) * 5, "values": (1,) * 5}, {}),
    Fault(Code.HOTKEY_NOT_REGISTERED_IN_SUBNET, {}, {}, STRANGER),
    Fault(Code.NOT_ENOUGH_STAKE_TO_SET_WEIGHTS, {}, {"min_stake": 1001}),
    Fault(Code.INCORRECT_WEIGHT_VERSION_KEY, {"version_key": 2}, {"version_key": 3}),
    Fault(Code.NEURON_NO_VALIDATOR_PERMIT, {}, {"neurons": UNPERMITTED}),
    Fault(Code.DUPLICATE_UIDS, {"uids": (2, 2)}, {}),
    Fault(Code.UID_VEC_CONTAIN_INVALID_ONE, {"uids": (0, 4)}, {}),
    Fault(Code.WEIGHT_VEC_LENGTH_IS_LOW, {}, {"min_allowed_weights": 3}),
    Fault(Code.MAX_WEIGHT_EXCEEDED, {}, {"max_weight_limit": 40000}),
]


@pytest.mark.trio
@pytest.mark.parametrize("fault", FAULTS, ids=[fault.code for fault in FAULTS])
async def test_what_the_chain_refuses_changes_nothing(subnet: Subnet, fault: Fault):
    subnet.clock.to_block(1)
    chain = subnet.chain(**fault.genesis)
    error = await refused(chain, fault.key, call_of(chain, **fault.call))
    assert error.code is fault.code
    assert await chain.history() == ()


@pytest.mark.trio
async def test_a_stranger_leaves_no_file(subnet: Subnet):
    with pytest.raises(ChainError, match="HotKeyNotRegisteredInSubNet"):
        await subnet.chain().set_weights(STRANGER, VECTOR)
    assert not subnet.directory.exists()


@pytest.mark.trio
async def test_a_signature_of_something_else_is_a_bad_proof(subnet: Subnet):
    chain = subnet.chain()
    call = call_of(chain)
    payload = call.signing_payload
    wrong = [
        BOB.sign(payload),
        ALICE.sign(call_of(chain, values=(1, 4)).signing_payload),
        ALICE.sign(b"<Bytes>" + payload + b"</Bytes>"),
        bytes(64),
        b"",
    ]
    for signature in wrong:
        with pytest.raises(ChainError, match="BadProof"):
            await chain.include(call, ALICE.public_key, signature)
    for changes in ({"genesis": bytes(32)}, {"netuid": 8}):
        error = await refused(chain, ALICE, call_of(chain, **changes))
        assert error.code is Code.BAD_PROOF
    assert await chain.history() == ()


@pytest.mark.trio
async def test_a_call_is_included_once(subnet: Subnet):
    chain = subnet.chain(weights_rate_limit=0)
    call = call_of(chain)
    signature = ALICE.sign(call.signing_payload)
    await chain.include(call, ALICE.public_key, signature)
    subnet.clock.to_block(50)
    with pytest.raises(ChainError, match=r"Stale: .* has nonce 0, the next is 1"):
        await chain.include(call, ALICE.public_key, signature)


@pytest.mark.trio
@pytest.mark.parametrize(
    ("vector", "changes"),
    [(((-1, 1),), {}), (((0, 65536),), {}), (VECTOR, {"version_key": 2**70})],
)
async def test_figures_that_fit_no_call_are_refused(subnet: Subnet, vector, changes):
    with pytest.raises(ChainError, match="malformed_call"):
        await subnet.chain().set_weights(ALICE, vector, **changes)


@pytest.mark.trio
async def test_a_uid_that_does_not_exist_is_named(subnet: Subnet):
    with pytest.raises(ChainError, match="unknown_uid: uid 4, subnet 7 has 4"):
        await subnet.chain().weights_of(4)


def test_a_genesis_that_is_none_is_refused():
    with pytest.raises(ValueError, match="2 neurons but 1 different hotkeys"):
        genesis(neurons=(neuron(ALICE), neuron(ALICE)))
    with pytest.raises(ValueError, match="tempo 0"):
        genesis(tempo=0)
    assert isinstance(genesis(), ChainGenesis)
    assert genesis().digest == genesis().digest != genesis(tempo=11).digest
