"""A challenge as the network records it, made from what its author wrote."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from challenges.vectors import Vector
from protocol.codec import encode, sha256
from protocol.records.canary import CanaryVector, CanaryVectors
from protocol.records.challenge import Challenge, DataBlob, EvaluationContext, RuntimePolicy
from registry.spec import ChallengeSpec
from runtime.outcome import GuestOutput


def challenge_record(
    spec: ChallengeSpec, module_hash: bytes, blobs: Mapping[str, bytes], vectors: bytes
) -> Challenge:
    """Return the protocol's record of an author's spec.

    `module_hash` is the module's SHA-256; `blobs` holds the data blobs by the policy's `data_keys`;
    `vectors` is what `canary_vectors` made.
    """
    policy = spec.policy
    return Challenge(
        challenge_id=spec.id,
        version=spec.version,
        module_hash=module_hash,
        policy=RuntimePolicy(
            fuel=policy.fuel,
            memory_pages=policy.memory_pages,
            max_input_bytes=policy.max_input_bytes,
            max_output_bytes=policy.max_output_bytes,
            max_log_lines=policy.max_log_lines,
            host_functions=tuple(sorted(policy.host_functions)),
            data=tuple(
                DataBlob(key=key.encode(), digest=sha256(blobs[key]))
                for key in sorted(policy.data_keys)
            ),
            storage_bytes=policy.storage_bytes,
        ),
        vectors=sha256(vectors),
        params=encode(dict(sorted(spec.params.items()))),
        emission=spec.emission,
    )


def canary_vectors(vectors: tuple[Vector, ...]) -> bytes:
    """Return the encoded `CanaryVectors` that validators run before the version is active."""
    return encode(CanaryVectors(vectors=tuple(map(_canary_vector, vectors))))


def _canary_vector(vector: Vector) -> CanaryVector:
    output = b""
    if vector.output is not None:
        answer = vector.output.model_dump()
        answer["metrics"] = dict(sorted(answer["metrics"].items()))
        output = msgspec.msgpack.encode(GuestOutput(**answer))
    return CanaryVector(
        name=vector.name,
        submission=vector.submission,
        miner=vector.miner,
        context=EvaluationContext(**vector.context.model_dump() | {"seed": vector.context.seed}),
        outcome_class=vector.expected,
        output=output,
    )
