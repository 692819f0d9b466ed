r"""What an evaluation comes to: its class, what the guest said, and the hash validators agree on.

Rules:
1. The verdict hash covers what every validator must see alike and nothing else: never fuel used,
   durations, log lines, trap texts or the class's explanation in `message`.
2. A guest's output counts only when its bytes are the canonical MessagePack of
   `{score, valid, message, metrics}`: the four keys in this order, shortest forms, metrics sorted
   by the UTF-8 bytes of their names, every bound kept. Anything else is `bad_output`.
3. The score is 0 unless the class is `ok` and the guest says `valid`.

Byte layout of the verdict hash, the SHA-256 of:

    20  b"platform/verdict/v1\0"
    32  engine id
    32  module hash
    32  input hash
    32  policy hash
     1  length of the class name, then the name in ASCII
     4  length of the output, big endian, then the output (empty unless the class is `ok`)
    32  writes hash (`protocol.records.challenge_storage`; 32 zero bytes: nothing was written)
"""

from __future__ import annotations

import itertools
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from protocol.codec import U64, ZERO_DIGEST, Digest, Record, sha256
from protocol.records.challenge import MAX_SCORE
from protocol.records.challenge_storage import Writes

VERDICT_TAG = b"platform/verdict/v1\x00"
NO_WRITES = ZERO_DIGEST
"""The writes hash of an evaluation that stored nothing."""

MAX_MESSAGE_CHARS = 1024
MAX_METRICS = 64
MAX_METRIC_NAME_CHARS = 64


class OutcomeClass(StrEnum):
    """How an evaluation ended, the same on every validator."""

    OK = "ok"
    OUT_OF_FUEL = "out_of_fuel"
    TRAP = "trap"
    MEMORY_LIMIT = "memory_limit"
    """The module's initial memory exceeds the policy, or `alloc` returned 0 for the input."""
    OUTPUT_LIMIT = "output_limit"
    BAD_OUTPUT = "bad_output"
    """The guest returned, but not bytes inside its memory that rule 2 accepts."""
    HOST_LIMIT = "host_limit"
    """More host services than the policy grants, such as log lines."""
    MISSING_EXPORT = "missing_export"
    INVALID_MODULE = "invalid_module"


class OutputError(ValueError):
    """Guest output that breaks rule 2."""


class GuestOutput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a guest answers, after the checks of rule 2."""

    score: Annotated[int, Meta(ge=0, le=MAX_SCORE)]
    valid: bool
    message: Annotated[str, Meta(max_length=MAX_MESSAGE_CHARS)]
    metrics: Annotated[
        dict[
            Annotated[str, Meta(min_length=1, max_length=MAX_METRIC_NAME_CHARS)],
            Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)],
        ],
        Meta(max_length=MAX_METRICS),
    ]


class Outcome(Record):
    """The result of one evaluation. Two validators compare `verdict_hash` alone.

    A record, for it travels from a worker to its pool, which checks it like anything else.
    """

    outcome_class: OutcomeClass
    output: bytes
    """The guest's output as returned; empty unless the class is `ok`."""
    score: Annotated[int, Meta(ge=0, le=MAX_SCORE)]
    """0 unless the class is `ok` and `valid`."""
    valid: bool
    message: str
    """The guest's message if `ok`, otherwise a local explanation that is never hashed."""
    fuel_used: U64
    """Fuel billed: what was burnt if the guest returned, the whole limit on any trap."""
    verdict_hash: Digest
    log: tuple[str, ...]
    """Lines the guest logged, cut to the host's limits; never hashed."""
    writes: Writes = ()
    """What the guest stored; empty unless the class is `ok`."""
    host_calls: tuple[tuple[str, U64], ...] = ()
    """Host functions called, and how often, by name; never hashed."""

    @property
    def metrics(self) -> dict[str, int]:
        """The guest's metrics by name; empty unless the class is `ok`."""
        return dict(parse_output(self.output).metrics) if self.output else {}


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(GuestOutput)


def parse_output(output: bytes) -> GuestOutput:
    """Return what the guest's output says. Raises `OutputError` unless rule 2 holds."""
    try:
        value = _decoder.decode(output)
        canonical = _encoder.encode(value) == output
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError) as error:
        raise OutputError(str(error)) from error
    if not canonical:
        raise OutputError("not canonical: the keys' order, or a longer form of a value")
    names = [name.encode() for name in value.metrics]
    if any(left >= right for left, right in itertools.pairwise(names)):
        raise OutputError("metrics are not sorted by name")
    return value


def verdict_hash(
    *,
    engine_id: bytes,
    module_hash: bytes,
    input_hash: bytes,
    policy_hash: bytes,
    outcome_class: OutcomeClass,
    output: bytes,
    writes_hash: bytes = NO_WRITES,
) -> bytes:
    """Return what consensus compares; the layout stands at the top of this module.

    Raises `ValueError` when a digest is not 32 bytes long.
    """
    digests = (engine_id, module_hash, input_hash, policy_hash, writes_hash)
    if any(len(digest) != 32 for digest in digests):
        raise ValueError(f"digests of 32 bytes expected, lengths are {[len(d) for d in digests]}")
    name = outcome_class.value.encode()
    return sha256(
        VERDICT_TAG,
        engine_id,
        module_hash,
        input_hash,
        policy_hash,
        bytes((len(name),)),
        name,
        len(output).to_bytes(4, "big"),
        output,
        writes_hash,
    )
