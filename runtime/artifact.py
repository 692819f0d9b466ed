"""A module made ready: what admission found, and the machine code if there is any.

Rules:
1. An artifact is made by `build` alone. Its code is *run* by whoever loads it, so one that was
   stored anywhere is loaded only after its MAC was checked (`runtime.artifact_cache`).
2. A refusal is an artifact too: it says the same on every machine, so it is kept like code.
3. `profile` says which engine the code is for. Components are made by `runtime.component_artifact`.
"""

from __future__ import annotations

from typing import Literal

import wasmtime

from protocol.codec import Digest, Record, sha256
from runtime import native
from runtime.admission import ModuleSummary, linkable, summarise
from runtime.component_admission import ComponentSummary
from runtime.errors import AdmissionError, Fault, FaultReason

MAX_ARTIFACT_BYTES = 128 * 1024 * 1024
"""Compilers' output grows to about 4 times the module. Code made for growth reaches 60 times, and
with it this limit at 2 MiB: such a module never becomes active, for its vectors run nowhere."""
MAX_REASON_CHARS = 4_096


class Refusal(Record):
    """An `AdmissionError` that can be kept."""

    rule: str
    found: int | str
    limit: int | str

    def error(self) -> AdmissionError:
        """Return it as it was raised."""
        return AdmissionError(self.rule, self.found, self.limit)


class Artifact(Record):
    """What a worker loads instead of compiling."""

    engine_id: Digest
    module_hash: Digest
    summary: ModuleSummary | None
    """None for a module that is refused whatever the policy, and for a component."""
    refusal: Refusal | None
    code: bytes
    """wasmtime's serialised module; empty when the module is refused or can never be linked."""
    profile: Literal["core", "component"] = "core"
    component: ComponentSummary | None = None
    """None for a component that is refused whatever the policy, and for a core module."""


def build(engine: wasmtime.Engine, engine_id: bytes, module: bytes) -> Artifact:
    """Check and compile `module`; the engine must be the one that `engine_id` names.

    Raises `Fault` (compile) when the engine fails on a module that it calls valid.
    """

    def artifact(
        summary: ModuleSummary | None, refusal: AdmissionError | None, code: bytes = b""
    ) -> Artifact:
        return Artifact(
            engine_id=engine_id,
            module_hash=sha256(module),
            summary=summary,
            refusal=None if refusal is None else refusal_of(refusal),
            code=code,
        )

    try:
        summary = summarise(module)
    except AdmissionError as error:
        return artifact(None, error)
    problem = native.validate(native.address(engine.ptr()), module)
    if problem is not None:
        return artifact(None, AdmissionError("engine", problem, "a valid module"))
    if not linkable(summary):
        # no policy can allow it: check_policy names the import
        return artifact(summary, None)
    try:
        return artifact(summary, None, bytes(wasmtime.Module(engine, module).serialize()))
    except wasmtime.WasmtimeError as error:
        raise Fault(FaultReason.COMPILE, str(error)) from error


def refusal_of(error: AdmissionError) -> Refusal:
    """Return a refusal to keep; its descriptions are cut to `MAX_REASON_CHARS`."""
    found, limit = (
        figure[:MAX_REASON_CHARS] if isinstance(figure, str) else figure
        for figure in (error.found, error.limit)
    )
    return Refusal(rule=error.rule, found=found, limit=limit)
