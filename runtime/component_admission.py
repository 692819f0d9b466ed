r"""Which components may be registered and run: a check of the bytes before any compiling.

Rules:
1. As in `runtime.admission`: pure, bytes and policy in, a summary or an `AdmissionError` out, each
   naming the rule, the figure found and the limit. The profile is told by the header alone.
2. A component imports nothing: no WASI, no clock, no file. Its core modules may import from each
   other; the engine checks that everything fits.
3. It has no start function, and a component inside only gives names to types (componentize-py
   leaves one), so nothing runs but its core modules' own initialisation, under fuel.
4. It exports either `evaluate` alone, or the four functions of a contest (`runtime.contest`), each
   taking strings and returning a string. Names are checked here, types after compiling. An exported
   instance (componentize-py leaves `exports`) is never called.
5. What compiles slowly never reaches the compiler. CPython 3.14 by componentize-py 0.25 has 13,400
   functions, weight 122 M, loop weight 1.3 M, one body of 427 kB, and takes 19 CPU-s; the limits
   are about twice its figures. `runtime.compile_child` has limits for what gets through.

`weight` and `loop_weight` are those of `runtime.admission`, summed over all core modules.
"""

from __future__ import annotations

import re

from protocol.codec import Record
from protocol.records.challenge import RuntimePolicy
from runtime.engine import MAX_MEMORY_PAGES
from runtime.errors import AdmissionError
from runtime.wasm_reader import Malformed, Reader

HEADER = b"\x00asm\x0d\x00\x01\x00"
MODULE_HEADER = b"\x00asm\x01\x00\x00\x00"
MAX_COMPONENT_BYTES = 32 * 1024 * 1024
MAX_MODULES = 128
MAX_SECTIONS = 2_048
MAX_MEMORIES = 1
MAX_FUNCTIONS = 30_000
MAX_TABLE_ELEMENTS = 20_000
MAX_GLOBALS = 2_000
MAX_LOCALS = 500
MAX_BODY_BYTES = 1024 * 1024
MAX_WEIGHT = 250_000_000
MAX_LOOP_WEIGHT = 3_000_000

SINGLE = ("evaluate",)
CONTEST = ("answer", "load", "questions", "score")
PARAMETERS = {"evaluate": 1, "answer": 1, "load": 1, "questions": 1, "score": 2}
"""How many strings each function takes; each returns one."""

_MODULE, _COMPONENT, _TYPE, _START, _IMPORT, _EXPORT = 1, 4, 7, 9, 10, 11
_SORT_FUNCTION, _SORT_INSTANCE = 1, 5
_LAST_SECTION = 11
_OPENS_LOOP = re.compile(b"\x03(?=[\x00-\x40\x70\x7c-\xff])", re.DOTALL)
"""A `loop` and its block type: empty, a value type, or a type's index."""


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


def is_component(module: bytes) -> bool:
    """Whether these bytes claim to be a component."""
    return module[: len(HEADER)] == HEADER


def summarise_component(component: bytes) -> ComponentSummary:
    """Check all rules that need no policy. Raises `AdmissionError`."""
    _limit("component_bytes", len(component), MAX_COMPONENT_BYTES)
    if not is_component(component):
        raise AdmissionError("magic", component[:8].hex() or "nothing", HEADER.hex())
    scan = _Scan()
    try:
        scan.read(Reader(component, len(HEADER), len(component)))
    except Malformed as error:
        raise AdmissionError("malformed", str(error), "a WebAssembly component") from error
    return scan.finish()


def check_component_policy(summary: ComponentSummary, policy: RuntimePolicy) -> None:
    """Check the memory, the one thing a policy says about a component. Raises `AdmissionError`."""
    _limit("memory_pages", summary.memory_pages, min(policy.memory_pages, MAX_MEMORY_PAGES))


def _limit(rule: str, found: int, limit: int) -> None:
    if found > limit:
        raise AdmissionError(rule, found, limit)


class _Scan:
    """Reads the component's sections and those of its core modules, and sums up."""

    def __init__(self) -> None:
        self.modules = 0
        self.memories = 0
        self.pages = 0
        self.tables = 0
        self.globals = 0
        self.functions = 0
        self.weight = 0
        self.loop_weight = 0
        self.exports: list[str] = []

    def read(self, reader: Reader) -> None:
        sections = 0
        while not reader.at_end():
            kind = reader.byte()
            section = reader.sub(reader.u32())
            sections += 1
            _limit("sections", sections, MAX_SECTIONS)
            if kind > _LAST_SECTION:
                raise AdmissionError("section", kind, f"0 to {_LAST_SECTION}")
            if kind == _START:
                raise AdmissionError("start", "a start function", "none")
            if kind == _IMPORT:
                _limit("imports", section.u32(), 0)
            elif kind == _MODULE:
                self.modules += 1
                _limit("modules", self.modules, MAX_MODULES)
                self.read_module(section)
            elif kind == _COMPONENT:
                self.read_names(section)
            elif kind == _EXPORT:
                self.read_exports(section)

    def read_names(self, inner: Reader) -> None:
        head = inner.sub(len(HEADER))
        if inner.data[head.at : head.end] != HEADER:
            raise Malformed(f"an inner component of another version at byte {head.at}")
        while not inner.at_end():
            kind = inner.byte()
            if kind not in {0, _TYPE, _IMPORT, _EXPORT}:
                raise AdmissionError("components", f"section {kind} in an inner one", "types only")
            inner.sub(inner.u32())

    def read_exports(self, section: Reader) -> None:
        for _ in range(section.u32()):
            section.byte()  # plain, or interface; the name tells them apart
            name = section.name()
            sort = section.byte()
            if sort not in {_SORT_FUNCTION, _SORT_INSTANCE}:
                raise AdmissionError("export_kind", f"'{name[:64]}' of kind {sort}", "functions")
            section.u32()
            if section.byte() != 0:
                raise AdmissionError("export_type", f"'{name[:64]}' ascribed", "a plain export")
            if sort == _SORT_FUNCTION:
                self.exports.append(name)

    def read_module(self, module: Reader) -> None:
        head = module.sub(len(MODULE_HEADER))
        if module.data[head.at : head.end] != MODULE_HEADER:
            raise Malformed(f"a core module of another version at byte {head.at}")
        while not module.at_end():
            kind = module.byte()
            section = module.sub(module.u32())
            if kind == 4:
                self.read_tables(section)
            elif kind == 5:
                # one for all modules: the policy's limit counts for each memory by itself
                self.memories += section.u32()
                _limit("memories", self.memories, MAX_MEMORIES)
                while not section.at_end():
                    self.pages += section.limits()
                _limit("memory_pages", self.pages, MAX_MEMORY_PAGES)
            elif kind == 6:
                self.globals += section.u32()
                _limit("globals", self.globals, MAX_GLOBALS)
            elif kind == 10:
                self.read_code(section)

    def read_tables(self, section: Reader) -> None:
        for _ in range(section.u32()):
            element = section.byte()
            if element != 0x70:
                raise AdmissionError("table_type", hex(element), "0x70, funcref")
            self.tables += section.limits()
        _limit("table_elements", self.tables, MAX_TABLE_ELEMENTS)

    def read_code(self, section: Reader) -> None:
        count = section.u32()
        self.functions += count
        _limit("functions", self.functions, MAX_FUNCTIONS)
        for _ in range(count):
            size = section.u32()
            _limit("body_bytes", size, MAX_BODY_BYTES)
            body = section.sub(size)
            variables = 0
            for _ in range(body.u32()):
                variables += body.u32()
                body.byte()
                _limit("locals", variables, MAX_LOCALS)
            self.weight += (variables + 8) * size
            loops = len(_OPENS_LOOP.findall(section.data, body.at, body.end))
            self.loop_weight += loops * variables + loops * loops // 100
        _limit("weight", self.weight, MAX_WEIGHT)
        _limit("loop_weight", self.loop_weight, MAX_LOOP_WEIGHT)

    def finish(self) -> ComponentSummary:
        exports = tuple(sorted(self.exports))
        if exports not in {SINGLE, CONTEST}:
            found = ", ".join(exports)[:256] or "nothing"
            raise AdmissionError("export", found, f"evaluate, or {', '.join(CONTEST)}")
        return ComponentSummary(
            exports=exports,
            modules=self.modules,
            memory_pages=self.pages,
            functions=self.functions,
            weight=self.weight,
            loop_weight=self.loop_weight,
        )
