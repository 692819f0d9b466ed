"""Pinned verdicts, and the example challenges' own vectors."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import msgpack
import pytest

from protocol.records.challenge import EvaluationContext, RuntimePolicy
from runtime.sandbox import Sandbox
from tests.runtime.modules import job_for

EXAMPLES = sorted((Path(__file__).parents[2] / "challenges" / "examples").glob("*/module.wasm"))

# module() of modules.py as wat2wasm of wasmtime 50.0.1 wrote it, so that the hash pins no assembler
TINY = bytes.fromhex(
    "0061736d01000000010c0260017f017f60027f7f017e03030200010503010002071d03066d656d6f72790200"
    "05616c6c6f630000086576616c7561746500010a120205004180200b0a0042274220864210840b0b2d010041"
    "100b2784a573636f7265ce0007a120a576616c6964c3a76d657373616765a26f6ba76d657472696373800021"
    "046e616d65010b0101086576616c75617465020d010102000370747201036c656e"
)


def test_a_pinned_module_under_a_pinned_engine_has_a_pinned_verdict(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "engine_id", b"\xee" * 32)
    outcome = sandbox.evaluate(job_for(sandbox.load(TINY)))
    assert outcome.verdict_hash.hex() == (
        "4d69fbda2b6de800de2b3344fa9ba4179b037751a0520856dfbe22f68fa10a39"
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_example_challenges_give_their_vectors(sandbox: Sandbox, path: Path) -> None:
    spec = tomllib.loads((path.parent / "platform.toml").read_text())
    policy = RuntimePolicy(
        **(spec["policy"] | {"host_functions": tuple(spec["policy"]["host_functions"])})
    )
    code = path.read_bytes()
    sandbox.check(code, policy)
    vectors: list[dict[str, Any]] = json.loads((path.parent / "vectors.json").read_text())[
        "vectors"
    ]
    assert vectors
    for vector in vectors:
        context = vector["context"] | {"seed": bytes.fromhex(vector["context"]["seed"])}
        outcome = sandbox.evaluate(
            job_for(
                sandbox.load(code),
                policy=policy,
                challenge_id=spec["id"],
                version=spec["version"],
                params=msgpack.packb(spec["params"]),
                miner=bytes.fromhex(vector["miner"]),
                submission=bytes.fromhex(vector["submission"]),
                context=EvaluationContext(**context),
            )
        )
        assert outcome.outcome_class == vector["expected"], (vector["name"], outcome.message)
        if vector["expected"] == "ok":
            assert msgpack.unpackb(outcome.output) == vector["output"], vector["name"]
