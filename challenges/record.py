"""A challenge as the network records it, made from what its author wrote."""

from __future__ import annotations

from collections.abc import Mapping

from protocol.codec import encode, sha256
from protocol.records.challenge import Challenge, DataBlob, RuntimePolicy
from registry.spec import ChallengeSpec


def challenge_record(
    spec: ChallengeSpec, module_hash: bytes, blobs: Mapping[str, bytes]
) -> Challenge:
    """Return the protocol's record of an author's spec.

    `module_hash` is the module's SHA-256; `blobs` holds the data blobs by the policy's `data_keys`.
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
        params=encode(dict(sorted(spec.params.items()))),
        emission=spec.emission,
    )
