"""The rules of admission by name, their limits, and what is known of a module that keeps them.

Rules:
1. A rule's name is stable: it is a metrics label, and authors look it up. `Rule` lists them all.
2. A refusal names the rule, the figure found and the limit; `refusal` and `limit` alone make one.
3. What the compiler does for an instance's beginning counts like code. Measured with wasmtime
   50.0.1: an active data segment costs it 0.1 to 0.4 ms, an element given as an expression 0.06 ms,
   so that 500 kB of empty data segments took 43 CPU-s and 4 MB of `ref.func` more than 200. Real
   compilers write a handful of segments, elements as plain indices, and one instruction for an
   initial value.
"""

from __future__ import annotations

from enum import StrEnum

from protocol.codec import Record
from runtime.errors import AdmissionError
from runtime.wasm_reader import I32, I64, FuncType

HEADER = b"\x00asm\x01\x00\x00\x00"
MAX_MODULE_BYTES = 4 * 1024 * 1024
MAX_TABLES = 1
MAX_FUNCTIONS = 20_000
MAX_TYPES = 2_000
MAX_PARAMS = 32
MAX_RESULTS = 8
MAX_GLOBALS = 1_000
MAX_IMPORTS = 1_000
MAX_EXPORTS = 1_000
MAX_LOCALS = 500
"""Declared locals and parameters of one function."""
MAX_BODY_BYTES = 128 * 1024
MAX_WEIGHT = 50_000_000
"""Limit of the sum over all functions of (locals + 8) x body bytes."""
MAX_LOOP_WEIGHT = 1_000_000
"""Limit of the sum over all functions of loops x (locals + loops / 100)."""
MAX_BRANCH_WEIGHT = 1_000_000
"""Limit of the sum over all functions of branches + branches x branches / 500."""
MAX_DATA_SEGMENTS = 2_000
MAX_ELEMENT_SEGMENTS = 1_000
MAX_ELEMENTS = MAX_FUNCTIONS
"""Entries of all element segments together: each function may be named once."""

REQUIRED_EXPORTS: tuple[tuple[str, FuncType], ...] = (
    ("alloc", ((I32,), (I32,))),
    ("evaluate", ((I32, I32), (I64,))),
)
OPTIONAL_EXPORTS: tuple[tuple[str, FuncType], ...] = (
    ("validate", ((I32, I32), (I32,))),
    ("handle_route", ((I32, I32), (I64,))),
    ("abi_version", ((), (I32,))),
)

FUNC, TABLE, MEMORY = 0, 1, 2


class Rule(StrEnum):
    """What a module may break, in the order in which the rules are looked at."""

    MODULE_BYTES = "module_bytes"
    MAGIC = "magic"
    """The header of a binary core module: no text, no component, no other version."""
    MALFORMED = "malformed"
    """Not the binary format, as far as it is read here."""
    SECTION = "section"
    """A section of a proposal that is switched off."""
    TYPES = "types"
    TYPE_FORM = "type_form"
    """Function types only."""
    PARAMS = "params"
    RESULTS = "results"
    IMPORTS = "imports"
    IMPORT_KIND = "import_kind"
    """Functions only."""
    FUNCTIONS = "functions"
    TABLES = "tables"
    TABLE_TYPE = "table_type"
    """Function references only."""
    TABLE_ELEMENTS = "table_elements"
    MEMORIES = "memories"
    """Exactly one, defined in the module."""
    MEMORY_PAGES = "memory_pages"
    """Initial size: 1,024 pages at most, and no more than the policy grants."""
    GLOBALS = "globals"
    INITIAL_VALUE = "initial_value"
    """Globals, offsets and elements begin as one constant instruction each."""
    EXPORTS = "exports"
    ELEMENT_SEGMENTS = "element_segments"
    ELEMENTS = "elements"
    LOCALS = "locals"
    BODY_BYTES = "body_bytes"
    WEIGHT = "weight"
    LOOP_WEIGHT = "loop_weight"
    BRANCH_WEIGHT = "branch_weight"
    DATA_SEGMENTS = "data_segments"
    EXPORT = "export"
    """`memory`, `alloc` and `evaluate` are there."""
    EXPORT_TYPE = "export_type"
    IMPORT = "import"
    """The policy grants it, and it exists."""
    IMPORT_TYPE = "import_type"
    ENGINE = "engine"
    """wasmtime calls the module valid (`runtime.artifact`)."""
    START = "start"
    """The start section ends without a trap under the policy (`runtime.sandbox`)."""


NEED_ENGINE = frozenset({Rule.ENGINE, Rule.START})
"""Looked at after admission, by what compiles and runs; all others are decided on the bytes."""


class ModuleSummary(Record):
    """What the rules need to know of a module that is admissible by itself."""

    imports: tuple[tuple[str, str, FuncType], ...]
    """Imported functions in order: namespace, name, type."""
    memory_pages: int
    """Initial size of the one memory."""
    functions: int
    weight: int
    loop_weight: int
    has_start: bool


def refusal(rule: Rule, found: int | str, allowed: int | str) -> AdmissionError:
    """Return the error that names a broken rule."""
    return AdmissionError(rule.value, found, allowed)


def limit(rule: Rule, found: int, allowed: int) -> None:
    """Raise `AdmissionError` if a figure exceeds its limit."""
    if found > allowed:
        raise refusal(rule, found, allowed)


def show(signature: FuncType) -> str:
    """Return a function type for people."""
    names = {I32: "i32", I64: "i64"}
    params, results = (
        " ".join(names.get(kind, hex(kind)) for kind in kinds) for kinds in signature
    )
    return f"({params}) -> ({results})"
