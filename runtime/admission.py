"""Which modules may be registered and run: a check of the module's bytes before any compiling.

Rules:
1. Pure: bytes and policy in, a `ModuleSummary` or an `AdmissionError` out, alike on every machine.
   Nothing here compiles or runs; `Sandbox.check` does that afterwards, for the start section.
2. What compiles slowly never reaches the compiler; measured with wasmtime 50.0.1:
   - 10 kB of calls between functions of 1,000 results took 40 CPU-s, so signatures are narrow;
   - 74 kB of 9,000 nested loops over 490 locals took 76 CPU-s and 7.6 GB, 14,000 nested loops over
     10 locals 14 CPU-s, both light by body size. A loop costs about 8 us a local and 0.07 us for
     each other loop of its function; the loop weight bounds that. It counts bytes that may open a
     loop, not instructions: decoding every body would take seconds, this takes milliseconds;
   - 128 KiB of `br_if` in one body took 10.6 CPU-s, and 31 such bodies fit into a module: branches
     cost by the square of their number in a function, which the branch weight bounds;
   - what stands outside of functions, see `runtime.admission_rules`.
   The worst admissible modules found compile in about 20 CPU-s, 4 MiB of plain calls among them.
3. Only what the engine configuration allows is read; an unknown form is refused, never skipped.
   The engine validates the rest (types of instructions, order and doubling of sections).
4. A memory may declare any maximum: what counts is its initial size, and the store's limit at run
   time, which lets `memory.grow` return -1.

Order: first the module alone (`summarise`), then imports and memory under the policy
(`check_policy`). The first rule broken is the one named; `runtime.admission_rules.Rule` lists all.
"""

from __future__ import annotations

from protocol.records.challenge import RuntimePolicy
from runtime.admission_parser import Parser
from runtime.admission_rules import (
    HEADER,
    MAX_FUNCTIONS,
    MAX_GLOBALS,
    MAX_LOCALS,
    MAX_MODULE_BYTES,
    ModuleSummary,
    Rule,
    limit,
    refusal,
    show,
)
from runtime.engine import MAX_MEMORY_PAGES
from runtime.host_functions import NAMESPACE, SIGNATURES
from runtime.wasm_reader import Malformed

__all__ = (
    "HEADER",
    "MAX_FUNCTIONS",
    "MAX_GLOBALS",
    "MAX_LOCALS",
    "ModuleSummary",
    "Rule",
    "admit",
    "check_policy",
    "linkable",
    "summarise",
)


def admit(module: bytes, policy: RuntimePolicy) -> ModuleSummary:
    """Return the summary of a module admissible under `policy`. Raises `AdmissionError`."""
    summary = summarise(module)
    check_policy(summary, policy)
    return summary


def summarise(module: bytes) -> ModuleSummary:
    """Check all rules that need no policy. Raises `AdmissionError`."""
    limit(Rule.MODULE_BYTES, len(module), MAX_MODULE_BYTES)
    if module[: len(HEADER)] != HEADER:
        raise refusal(Rule.MAGIC, module[: len(HEADER)].hex() or "nothing", HEADER.hex())
    parser = Parser(module)
    try:
        parser.read_sections()
        return parser.finish()
    except Malformed as error:
        raise refusal(Rule.MALFORMED, str(error), "a WebAssembly 1.0 binary") from error


def check_policy(summary: ModuleSummary, policy: RuntimePolicy) -> None:
    """Check imports (closed by default) and memory. Raises `AdmissionError`."""
    for namespace, name, signature in summary.imports:
        allowed = policy.host_functions if namespace == NAMESPACE else ()
        if name not in allowed or name not in SIGNATURES:
            granted = f"{NAMESPACE}: {', '.join(allowed) or 'nothing'}"
            raise refusal(Rule.IMPORT, f"{namespace}.{name}", granted)
        if signature != SIGNATURES[name]:
            found = f"{name} {show(signature)}"
            raise refusal(Rule.IMPORT_TYPE, found, show(SIGNATURES[name]))
    pages = min(policy.memory_pages, MAX_MEMORY_PAGES)
    limit(Rule.MEMORY_PAGES, summary.memory_pages, pages)


def linkable(summary: ModuleSummary) -> bool:
    """Whether every import exists with this type, under whatever policy."""
    return all(
        namespace == NAMESPACE and SIGNATURES.get(name) == signature
        for namespace, name, signature in summary.imports
    )
