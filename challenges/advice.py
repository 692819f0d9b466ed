"""What to tell an author about a refused module or an outcome that no vector asked for.

One line each: file, what was found, what was expected, what to do. The rules and classes are the
sandbox's; here are only the words.
"""

from __future__ import annotations

from challenges.errors import MistakeError
from challenges.project import Project
from registry.spec import ChallengeSpec
from runtime.admission_rules import Rule
from runtime.errors import AdmissionError
from runtime.host_functions import NAMESPACE
from runtime.outcome import Outcome, OutcomeClass

_ADMISSION: dict[str, str] = {
    "export": "Export it from the source and build again.",
    "export_type": "Give the exported function exactly this type and build again.",
    "import": "Add the function to policy.host_functions in platform.toml, or do not call it.",
    "import_type": "Declare the imported function with exactly this type.",
    "import_kind": "Import functions only; the module brings its own memory.",
    "memory_pages": (
        "Raise policy.memory_pages, use less static data, or make the linker reserve a smaller "
        "stack: many compilers reserve 1 MiB, 16 pages (-Wl,-z,stack-size=65536)."
    ),
    "memories": "Define one memory in the module and export it as 'memory'.",
    "module_bytes": "Make the module smaller: embed less data, build without debug information.",
    "magic": "Build a binary module; text (.wat) is not accepted.",
    "start": "Do nothing in the start section that can trap, or raise policy.fuel.",
    "initial_value": "Build without extended constant expressions (no -mextended-const, no PIC).",
    "data_segments": "Merge static data into fewer segments.",
    "engine": "Build for the wasm MVP: no threads, SIMD, tail calls, exceptions or 64-bit memory.",
    "components": "Build the component with `challenge build`; this one was composed of others.",
    "imports": "Import nothing: build with `challenge build`, which leaves WASI out.",
    "malformed": "Build the module again; this file is damaged or cut.",
}
_VECTOR = "0xfd"
"""What the instructions on vectors begin with."""
_ADMISSION_DEFAULT = "Split the function or make the module smaller; the limit is the network's."

_FOREIGN: dict[str, str] = {
    "assemblyscript": (
        "Math.random, Date, performance, crypto, process and console are the browser's and not "
        "there: call random, timeMs and log of platform.ts instead."
    ),
    "c": (
        "Define the function in source/, or do not call it: there is no libc and no WASI, and "
        "platform_guest.h declares what the host has."
    ),
}
"""What to do about an import that is not the platform's, by language."""

_OUTCOME: dict[OutcomeClass, str] = {
    OutcomeClass.OUT_OF_FUEL: "Bound the work by the input's size, or raise policy.fuel.",
    OutcomeClass.TRAP: (
        "A trap is billed the whole fuel, however little was burned. Check bounds and divisors, "
        "and refuse bad submissions instead of trapping; `challenge run` shows what a module "
        "logged before it."
    ),
    OutcomeClass.MEMORY_LIMIT: "Raise policy.memory_pages, or allocate less.",
    OutcomeClass.OUTPUT_LIMIT: "Shorten the message and metrics, or raise policy.max_output_bytes.",
    OutcomeClass.BAD_OUTPUT: (
        "Return {score, valid, message, metrics} in this order, metrics sorted by name; "
        "the SDK's accept and refuse do it."
    ),
    OutcomeClass.HOST_LIMIT: "Log less, or raise policy.max_log_lines.",
    OutcomeClass.MISSING_EXPORT: "Export memory, alloc and evaluate.",
    OutcomeClass.INVALID_MODULE: "Run `validator-node challenge test` for the rule it breaks.",
}


def admission_mistake(project: Project, error: AdmissionError) -> MistakeError:
    """Return an admission's refusal in the author's words."""
    expected = f"at most {error.limit:,}" if isinstance(error.limit, int) else str(error.limit)
    found = f"{error.found:,}" if isinstance(error.found, int) else error.found
    advice = _ADMISSION.get(error.rule, _ADMISSION_DEFAULT)
    if error.rule == Rule.INITIAL_VALUE and _VECTOR in found:
        advice = "Build without SIMD (no -msimd128): an initial value is a vector constant."
    if error.rule == Rule.IMPORT and not found.startswith(f"{NAMESPACE}."):
        advice = _FOREIGN.get(project.build.language, advice)
    return MistakeError(f"{project.module_path}: {error.rule}", found, expected, advice)


def outcome_advice(outcome: Outcome) -> str:
    """Return what to do about an outcome that is not ``ok``; empty if it is."""
    if outcome.outcome_class is OutcomeClass.BAD_OUTPUT and "float" in outcome.message:
        return "Scores and metrics are integers: scale them (0.5 is 500000) before encoding."
    return _OUTCOME.get(outcome.outcome_class, "")


def too_long(spec: ChallengeSpec, where: str, size: int) -> MistakeError:
    """Return that a submission is longer than the network would admit."""
    return MistakeError(
        where,
        f"a submission of {size:,} bytes",
        f"at most {spec.policy.max_input_bytes:,}, policy.max_input_bytes",
        "Shorten it, or raise the limit: the network refuses it before any evaluation.",
    )
