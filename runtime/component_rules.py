"""The rules for components by name, their limits, and what is known of one that keeps them.

Rules:
1. A rule's name is stable, as in `runtime.admission_rules`; where both profiles have a rule, it has
   one name. `ComponentRule` lists them all.
2. Figures are sums over all core modules of the component, except those of one function, type or
   value: a component is as expensive as its modules together.
3. A limit is about twice what CPython 3.14 by componentize-py 0.25 needs, which is written beside
   it. Where a store has a limit of its own, that of admission is never wider: a component that
   passes here can be instantiated on every machine, or traps on every machine.
"""

from __future__ import annotations

from enum import StrEnum

from protocol.codec import Record
from runtime.engine import MAX_TABLE_ELEMENTS
from runtime.errors import AdmissionError

__all__ = ("MAX_TABLE_ELEMENTS", "ComponentRule", "ComponentSummary", "limit", "refusal")

HEADER = b"\x00asm\x0d\x00\x01\x00"
MODULE_HEADER = b"\x00asm\x01\x00\x00\x00"
MAX_COMPONENT_BYTES = 32 * 1024 * 1024  # 19.6 MB
MAX_SECTIONS = 2_048  # 210
MAX_DEFINITIONS = 4_000  # 1,585: instances, aliases, types and lifted functions
MAX_TYPE_BYTES = 8_192  # 2,455: types and inner components
MAX_MODULES = 128  # 38
MAX_TYPES = 3_000  # 1,323
MAX_IMPORTS = 5_000  # 2,387
MAX_EXPORTS = 10_000  # 4,447
MAX_FUNCTIONS = 30_000  # 13,484
MAX_TABLES = 16  # 2
MAX_MEMORIES = 1
MAX_GLOBALS = 2_000  # 871
MAX_INITIAL_VALUE = 6
"""Instructions of an initial value; position-independent code has three: a base and an offset."""
MAX_ELEMENT_SEGMENTS = 64  # 7
MAX_ELEMENTS = 12_000  # 5,784
MAX_DATA_SEGMENTS = 4_000  # 1,968
MAX_LOCALS = 500
"""Declared locals and parameters of one function."""
MAX_BODY_BYTES = 1024 * 1024  # 427 kB
MAX_CODE_BYTES = 13 * 1024 * 1024  # 6.5 MB
MAX_WEIGHT = 250_000_000  # 139 M
MAX_LOOP_WEIGHT = 3_000_000  # 1.6 M
MAX_BRANCH_WEIGHT = 1_500_000  # 0.73 M
"""Limit of the sum over all functions of branches + branches^2 / 500: one costs the compiler 40 to
400 us, the more the more of them a function has."""
MAX_CALLS = 260_000  # 127,000
"""What leaves the function: calls, `memory.grow`, bulk operations; 16 us each."""
MAX_FLOATS = 340_000  # 167,000
"""Arithmetic that may give a NaN, which is made canonical: 16 us each."""

SINGLE = ("evaluate",)
CONTEST = ("answer", "load", "questions", "score")
PARAMETERS = {"evaluate": 1, "answer": 1, "load": 1, "questions": 1, "score": 2}
"""How many strings each function takes; each returns one."""


class ComponentRule(StrEnum):
    """What a component may break."""

    COMPONENT_BYTES = "component_bytes"
    MAGIC = "magic"
    MALFORMED = "malformed"
    SECTION = "section"
    """A section of a proposal that is switched off, of the component or of a core module."""
    SECTIONS = "sections"
    DEFINITIONS = "definitions"
    TYPE_BYTES = "type_bytes"
    START = "start"
    """No start function of the component; those of core modules end without a trap."""
    COMPONENTS = "components"
    """Inner components hold types, nothing else."""
    MODULES = "modules"
    INSTANCES = "instances"
    """A core module is instantiated once: twice would double what was counted."""
    IMPORTS = "imports"
    """None of the component; those of core modules, from each other, are counted."""
    IMPORT_KIND = "import_kind"
    TYPES = "types"
    TYPE_FORM = "type_form"
    PARAMS = "params"
    RESULTS = "results"
    FUNCTIONS = "functions"
    TABLES = "tables"
    TABLE_TYPE = "table_type"
    TABLE_ELEMENTS = "table_elements"
    MEMORIES = "memories"
    """One at most in all core modules: the policy's limit counts for each by itself."""
    MEMORY_PAGES = "memory_pages"
    GLOBALS = "globals"
    INITIAL_VALUE = "initial_value"
    """Globals, offsets and elements begin as a few constant instructions each."""
    EXPORTS = "exports"
    ELEMENT_SEGMENTS = "element_segments"
    ELEMENTS = "elements"
    DATA_SEGMENTS = "data_segments"
    LOCALS = "locals"
    BODY_BYTES = "body_bytes"
    CODE_BYTES = "code_bytes"
    WEIGHT = "weight"
    LOOP_WEIGHT = "loop_weight"
    BRANCH_WEIGHT = "branch_weight"
    CALLS = "calls"
    FLOATS = "floats"
    EXPORT = "export"
    """`evaluate`, or the four functions of a contest, and no other function."""
    EXPORT_KIND = "export_kind"
    EXPORT_TYPE = "export_type"
    ENGINE = "engine"
    """wasmtime calls the component valid (`runtime.component_artifact`)."""


NEED_ENGINE = frozenset({ComponentRule.ENGINE})
"""Never told by the bytes alone. `start`, `imports` and `export_type` are looked at twice: in the
bytes, and in what the engine made of them."""


class ComponentSummary(Record):
    """What the rules need to know of a component that is admissible by itself."""

    exports: tuple[str, ...]
    """`SINGLE` or `CONTEST`."""
    modules: int
    memory_pages: int
    """Initial size of the one memory."""
    functions: int
    weight: int
    loop_weight: int

    @property
    def is_contest(self) -> bool:
        """Whether it exports the four functions of a contest."""
        return self.exports == CONTEST


def refusal(rule: ComponentRule, found: int | str, allowed: int | str) -> AdmissionError:
    """Return the error that names a broken rule."""
    return AdmissionError(rule.value, found, allowed)


def limit(rule: ComponentRule, found: int, allowed: int) -> None:
    """Raise `AdmissionError` if a figure exceeds its limit."""
    if found > allowed:
        raise refusal(rule, found, allowed)
