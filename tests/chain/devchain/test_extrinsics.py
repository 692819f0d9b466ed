"""Signed extrinsics: read as the SDK writes them, and refused when anything differs."""

from __future__ import annotations

import copy

import pytest
from bittensor_core import Runtime, era_birth
from hypothesis import given
from hypothesis import strategies as st

from chain.devchain.errors import PoolRefusedError, RpcError
from chain.devchain.extrinsics import Mortality, parsed
from chain.devchain.ledger import KEPT_BLOCKS, Ledger
from chain.devchain.metadata import SPEC_VERSION
from chain.devchain.scale import blake2_256, compact
from tests.chain.devchain.support import (
    KEYS,
    NEWCOMER,
    PAIRS,
    codec,
    genesis,
    ledger,
    outcome,
    signed,
)

NOBODY = NEWCOMER + 1


def refusal(chain: Ledger, data: bytes) -> str | None:
    with pytest.raises(PoolRefusedError) as caught:
        chain.submit(data)
    return caught.value.data


def test_everything_is_read_as_it_was_written():
    chain = ledger()
    data = signed(chain, 2, nonce=0, period=64)
    extrinsic = parsed(data, codec())
    assert extrinsic.signer == KEYS[2]
    assert (extrinsic.nonce, extrinsic.tip) == (0, 0)
    assert extrinsic.mortality == Mortality(64, 0)
    assert extrinsic.hash == blake2_256(data)
    assert extrinsic.call.arguments["dests"] == [0, 2]
    known = codec().runtime.decode_extrinsic(data)
    assert extrinsic.call.data.hex()[:4] == known["call"]["call_index"][2:]


@given(period=st.sampled_from([4, 8, 64, 128, 4096, 8192, 65536]), current=st.integers(0, 1 << 32))
def test_an_extrinsics_life_begins_where_the_sdk_says(period, current):
    encoded = int.from_bytes(
        bytes(codec().runtime.encode_era({"period": period, "current": current})), "little"
    )
    step = max(1, period >> 12)
    mortality = Mortality(2 << (encoded % 16), (encoded >> 4) * step)
    assert mortality.period == period
    birth = mortality.birth(current)
    assert birth == era_birth(period, current)
    assert mortality.is_alive(birth, birth + period - 1)
    assert not mortality.is_alive(birth, birth + period)


def test_a_long_call_is_signed_by_its_hash():
    chain = ledger(min_allowed_weights=0)
    remark = signed(chain, 1, "remark", module="System", remark=b"x" * 1000)
    assert outcome(chain, remark) == "Success"


def test_an_immortal_extrinsic_is_taken():
    chain = ledger()
    assert outcome(chain, signed(chain, 1, period=None)) == "Success"


def test_a_changed_byte_is_a_bad_signature():
    chain = ledger()
    data = bytearray(signed(chain, 1))
    data[-20] ^= 1
    assert refusal(chain, bytes(data)) == "Transaction has a bad signature"


def test_another_chains_extrinsic_is_a_bad_signature():
    other = Ledger(genesis(tempo=77), codec(), ledger().knobs)
    assert refusal(ledger(), signed(other, 1)) == "Transaction has a bad signature"


def test_another_runtimes_extrinsic_is_a_bad_signature():
    chain = ledger()
    older = ledger()
    older.codec = copy.copy(codec())
    older.codec.runtime = Runtime(codec().metadata, SPEC_VERSION - 1, 1, 42)
    assert refusal(chain, signed(older, 1)) == "Transaction has a bad signature"


def test_a_wrapped_signature_is_a_bad_signature():
    chain = ledger()
    extrinsic = parsed(signed(chain, 1), codec())
    payload = extrinsic.payload(chain.genesis.hash, chain.genesis.hash)
    wrapped = bytes(PAIRS[1].sign(b"<Bytes>" + payload + b"</Bytes>"))
    data = extrinsic.data.replace(extrinsic.signature, wrapped)
    assert refusal(chain, data) == "Transaction has a bad signature"


def test_a_nonce_that_is_used_up_is_outdated():
    chain = ledger()
    data = signed(chain, 1)
    assert outcome(chain, data) == "Success"
    assert refusal(chain, data) == "Transaction is outdated"


def test_who_is_no_account_cannot_pay():
    chain = ledger()
    data = signed(chain, NOBODY, nonce=0)
    assert refusal(chain, data).startswith("Inability to pay some fees")


def test_a_life_that_began_on_a_forgotten_block_is_ancient():
    chain = ledger()
    chain.jump(20, 0)
    data = signed(chain, 1, period=65536)
    assert parsed(data, codec()).mortality.birth(20) == 16
    chain.jump(KEPT_BLOCKS, 0)
    assert refusal(chain, data) == "Transaction has an ancient birth block"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda data: b"", "length"),
        (lambda data: data[:-1], "bytes follow"),
        (lambda data: data.replace(b"\x84\x00", b"\x04\x00", 1), "only signed extrinsics"),
        (lambda data: data.replace(b"\x84\x00", b"\x84\x01", 1), "only account ids"),
        (lambda data: compact(4) + b"\x84\x00\x01\x02", "signer"),
        (lambda data: b"x" * 300_000, "is the limit"),
    ],
)
def test_what_is_no_extrinsic_is_refused_by_name(change, text):
    with pytest.raises(RpcError, match=text) as caught:
        ledger().submit(change(signed(ledger(), 1)))
    assert caught.value.code == 1002


@given(st.binary(max_size=300))
def test_anything_is_an_extrinsic_or_refused(data):
    for candidate in (data, compact(len(data)) + data):
        with pytest.raises(RpcError):
            parsed(candidate, codec())
