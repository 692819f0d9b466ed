"""The verdict hash's layout, and the strict reading of a guest's output."""

from __future__ import annotations

import hashlib

import msgpack
import pytest

from runtime.outcome import NO_WRITES, OutcomeClass, OutputError, parse_output, verdict_hash
from tests.runtime.modules import output

PARTS = {
    "engine_id": b"\x01" * 32,
    "module_hash": b"\x02" * 32,
    "input_hash": b"\x03" * 32,
    "policy_hash": b"\x04" * 32,
}


def test_the_verdict_hash_has_the_documented_layout() -> None:
    found = verdict_hash(**PARTS, outcome_class=OutcomeClass.OK, output=b"abc")
    preimage = (
        b"platform/verdict/v1\0"
        + b"".join(PARTS.values())
        + b"\x02ok"
        + b"\0\0\0\x03abc"
        + NO_WRITES
    )
    assert found == hashlib.sha256(preimage).digest()
    assert found.hex() == ("823e53448a2e9b9150b4e43a87e649e69151d053520b47b1d909b36718da5c89")


def test_each_part_changes_the_verdict_hash() -> None:
    values = {**PARTS, "outcome_class": OutcomeClass.OK, "output": b"", "writes_hash": NO_WRITES}
    other = dict.fromkeys((*PARTS, "writes_hash"), b"\t" * 32)
    other |= {"outcome_class": OutcomeClass.TRAP, "output": b"x"}
    hashes = {verdict_hash(**values)} | {
        verdict_hash(**(values | {name: value})) for name, value in other.items()
    }
    assert len(hashes) == 1 + len(other)


def test_digests_have_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        verdict_hash(**(PARTS | {"input_hash": b""}), outcome_class=OutcomeClass.OK, output=b"")


def test_a_good_output_is_read() -> None:
    parsed = parse_output(output(1_000_000, message="m" * 1024, a=2**63 - 1, b=-(2**63)))
    assert parsed.score == 1_000_000
    assert [*parsed.metrics] == ["a", "b"]


def packed(**changes: object) -> bytes:
    good = {"score": 1, "valid": True, "message": "", "metrics": {}}
    return msgpack.packb(good | changes)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(packed(score=1_000_001), id="score too high"),
        pytest.param(packed(score=-1), id="score negative"),
        pytest.param(packed(score=1.0), id="score a float"),
        pytest.param(packed(score=True), id="score a bool"),
        pytest.param(packed(score=None), id="score nil"),
        pytest.param(packed(valid=1), id="valid an integer"),
        pytest.param(packed(message=b"x"), id="message bytes"),
        pytest.param(packed(message="x" * 1025), id="message too long"),
        pytest.param(packed(metrics={"a": 1.5}), id="metric a float"),
        pytest.param(packed(metrics={"a": 2**63}), id="metric too large"),
        pytest.param(packed(metrics={"": 1}), id="metric without a name"),
        pytest.param(packed(metrics={"b": 1, "a": 1}), id="metrics unsorted"),
        pytest.param(packed(metrics={1: 1}), id="metric name an integer"),
        pytest.param(packed(metrics={f"{n:03}": n for n in range(65)}), id="metrics too many"),
        pytest.param(packed(extra=1), id="unknown key"),
        pytest.param(packed()[:-1], id="cut"),
        pytest.param(packed() + b"\xc0", id="trailing byte"),
        pytest.param(msgpack.packb([1, True, "", {}]), id="an array"),
        pytest.param(msgpack.packb({"score": 1, "valid": True, "message": ""}), id="missing key"),
        pytest.param(
            msgpack.packb({"valid": True, "score": 1, "message": "", "metrics": {}}), id="order"
        ),
        pytest.param(packed().replace(b"score\x01", b"score\xcc\x01"), id="longer integer"),
        pytest.param(packed().replace(b"message\xa0", b"message\xa1\xff"), id="not UTF-8"),
        pytest.param(
            packed(metrics={"a": 1}).replace(b"\x81\xa1a\x01", b"\x82\xa1a\x01\xa1a\x01"),
            id="metric twice",
        ),
        pytest.param(
            packed(metrics=b"").replace(b"\xc4\x00", b"\x81\xa1a" + b"\x91" * 5000),
            id="deep nesting",
        ),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(OutputError):
        parse_output(data)
