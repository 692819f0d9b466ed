"""A component made ready: checked, compiled, and its functions' types looked at.

The engine is the component profile's (`runtime.engine.new_component_engine`), the result an
`Artifact` like a core module's, so cache, compiling process and workers treat both alike.
"""

from __future__ import annotations

import wasmtime
from wasmtime import component as wasm_component

from protocol.codec import sha256
from runtime.artifact import Artifact, refusal_of
from runtime.component_admission import PARAMETERS, ComponentSummary, summarise_component
from runtime.errors import AdmissionError, Fault, FaultReason


def build_component(engine: wasmtime.Engine, engine_id: bytes, component: bytes) -> Artifact:
    """Check and compile `component`; the engine must be of the component profile.

    Raises `Fault` (compile) when the engine fails for a reason that is not the component's.
    """

    def artifact(
        summary: ComponentSummary | None, refusal: AdmissionError | None, code: bytes = b""
    ) -> Artifact:
        return Artifact(
            engine_id=engine_id,
            module_hash=sha256(component),
            summary=None,
            refusal=None if refusal is None else refusal_of(refusal),
            code=code,
            profile="component",
            component=summary,
        )

    try:
        summary = summarise_component(component)
    except AdmissionError as error:
        return artifact(None, error)
    try:
        compiled = wasm_component.Component(engine, component)
    except wasmtime.WasmtimeError as error:
        # the C API has no validation apart from compiling, which fails on invalid bytes alone:
        # what lacks memory or time ends the process instead
        return artifact(None, AdmissionError("engine", str(error), "a valid component"))
    try:
        _check_types(engine, compiled, summary)
    except AdmissionError as error:
        return artifact(None, error)
    try:
        return artifact(summary, None, bytes(compiled.serialize()))
    except wasmtime.WasmtimeError as error:
        raise Fault(FaultReason.COMPILE, str(error)) from error


def _check_types(
    engine: wasmtime.Engine, compiled: wasm_component.Component, summary: ComponentSummary
) -> None:
    imports = len(compiled.type.imports(engine))
    if imports:
        raise AdmissionError("imports", imports, 0)
    exports = compiled.type.exports(engine)
    for name in summary.exports:
        wanted = f"func({', '.join(['string'] * PARAMETERS[name])}) -> string"
        found = _signature(exports[name].ty)
        if found != wanted:
            raise AdmissionError("export_type", f"'{name}' {found}", wanted)


def _signature(kind: object) -> str:
    if not isinstance(kind, wasm_component.FuncType):
        return "no function"
    params = ", ".join(_word(entry) for _, entry in kind.params)
    return f"func({params}) -> {_word(kind.result)}"


def _word(kind: object) -> str:
    return "string" if isinstance(kind, wasm_component.String) else type(kind).__name__
