"""Which modules may be registered and run: a check of the module's bytes before any compiling.

Rules:
1. Pure: bytes and policy in, a `ModuleSummary` or an `AdmissionError` out, alike on every machine.
   Nothing here compiles or runs; `Sandbox.check` does that afterwards, for the start section.
2. What compiles slowly never reaches the compiler; measured with wasmtime 50.0.1:
   - 10 kB of calls between functions of 1,000 results took 40 CPU-s, so signatures are narrow;
   - 74 kB of 9,000 nested loops over 490 locals took 76 CPU-s and 7.6 GB, 14,000 nested loops over
     10 locals 14 CPU-s, both light by body size. A loop costs about 8 us a local and 0.07 us for
     each other loop of its function; the loop weight bounds that. It counts bytes that may open a
     loop, not instructions: decoding every body would take seconds, this takes milliseconds.
   The worst admissible modules found compile in about 20 CPU-s, 4 MiB of plain calls among them.
3. Only what the engine configuration allows is read; an unknown form is refused, never skipped.
   The engine validates the rest (types of instructions, order and doubling of sections).
4. A memory may declare any maximum: what counts is its initial size, and the store's limit at run
   time, which lets `memory.grow` return -1.

Order: first the module alone (`summarise`), then imports and memory under the policy
(`check_policy`). The first rule broken is the one named.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from protocol.codec import Record
from protocol.records.challenge import RuntimePolicy
from runtime.engine import MAX_MEMORY_PAGES, MAX_TABLE_ELEMENTS
from runtime.errors import AdmissionError
from runtime.host_functions import NAMESPACE, SIGNATURES
from runtime.wasm_reader import I32, I64, FuncType, Malformed, Reader

HEADER = b"\x00asm\x01\x00\x00\x00"
MAX_MODULE_BYTES = 4 * 1024 * 1024
MAX_TABLES = 1
MAX_FUNCTIONS = 20_000
MAX_TYPES = 2_000
MAX_PARAMS = 32
MAX_RESULTS = 8
MAX_GLOBALS = 1_000
MAX_EXPORTS = 1_000
MAX_LOCALS = 500
"""Declared locals and parameters of one function."""
MAX_BODY_BYTES = 128 * 1024
MAX_WEIGHT = 50_000_000
"""Limit of the sum over all functions of (locals + 8) x body bytes."""
MAX_LOOP_WEIGHT = 1_000_000
"""Limit of the sum over all functions of loops x (locals + loops / 100); see rule 2."""

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


def admit(module: bytes, policy: RuntimePolicy) -> ModuleSummary:
    """Return the summary of a module admissible under `policy`. Raises `AdmissionError`."""
    summary = summarise(module)
    check_policy(summary, policy)
    return summary


def summarise(module: bytes) -> ModuleSummary:
    """Check all rules that need no policy. Raises `AdmissionError`."""
    _limit("module_bytes", len(module), MAX_MODULE_BYTES)
    if module[:8] != HEADER:
        raise AdmissionError("magic", module[:8].hex() or "nothing", HEADER.hex())
    parser = _Parser(module)
    try:
        parser.read_sections()
        return parser.finish()
    except Malformed as error:
        raise AdmissionError("malformed", str(error), "a WebAssembly 1.0 binary") from error


def check_policy(summary: ModuleSummary, policy: RuntimePolicy) -> None:
    """Check imports (closed by default) and memory. Raises `AdmissionError`."""
    for namespace, name, signature in summary.imports:
        allowed = policy.host_functions if namespace == NAMESPACE else ()
        if name not in allowed or name not in SIGNATURES:
            raise AdmissionError(
                "import", f"{namespace}.{name}", f"{NAMESPACE}: {', '.join(allowed) or 'nothing'}"
            )
        if signature != SIGNATURES[name]:
            raise AdmissionError(
                "import_type", f"{name} {_show(signature)}", _show(SIGNATURES[name])
            )
    _limit("memory_pages", summary.memory_pages, min(policy.memory_pages, MAX_MEMORY_PAGES))


def linkable(summary: ModuleSummary) -> bool:
    """Whether every import exists with this type, under whatever policy."""
    return all(
        namespace == NAMESPACE and SIGNATURES.get(name) == signature
        for namespace, name, signature in summary.imports
    )


def _limit(rule: str, found: int, limit: int) -> None:
    if found > limit:
        raise AdmissionError(rule, found, limit)


def _show(signature: FuncType) -> str:
    names = {I32: "i32", I64: "i64"}
    params, results = (
        " ".join(names.get(kind, hex(kind)) for kind in kinds) for kinds in signature
    )
    return f"({params}) -> ({results})"


def _loop_pattern(types: int) -> re.Pattern[bytes]:
    """Return what matches each place where a `loop` instruction may stand, and some where not.

    The opcode 0x03 is followed by a block type: empty, a value type, or a type's index.
    """
    block_types = b"\x40\x70\x7c-\x7f"
    if types > 0:
        # an index may be written in more bytes than it needs, so the first may exceed 0x7f
        block_types += b"\x00-" + re.escape(bytes((min(types, 0x40) - 1,))) + b"\x80-\xff"
    return re.compile(b"\x03(?=[" + block_types + b"])", re.DOTALL)


class _Parser:
    """Reads the sections in file order and applies each rule where its figure is found."""

    def __init__(self, module: bytes) -> None:
        self.reader = Reader(module, 8, len(module))
        self.types: list[FuncType] = []
        self.imports: list[tuple[str, str, FuncType]] = []
        self.functions: list[FuncType] = []
        self.bodies = 0
        self.tables = 0
        self.memories: list[int] = []
        self.exports: dict[str, tuple[int, int]] = {}
        self.weight = 0
        self.loop_weight = 0
        self.has_start = False

    def read_sections(self) -> None:
        handlers = {
            1: self.read_types,
            2: self.read_imports,
            3: self.read_functions,
            4: self.read_tables,
            5: self.read_memories,
            6: self.read_globals,
            7: self.read_exports,
            8: self.read_start,
            10: self.read_code,
        }
        seen = set()
        while not self.reader.at_end():
            kind = self.reader.byte()
            section = self.reader.sub(self.reader.u32())
            # 0 custom, 9 elements, 11 data, 12 data count: bounded by the module's size alone
            if kind not in handlers and kind not in {0, 9, 11, 12}:
                raise AdmissionError("section", kind, "0 to 12")
            if kind != 0 and kind in seen:
                raise Malformed(f"section {kind} appears twice")
            seen.add(kind)
            handler = handlers.get(kind)
            if handler is not None:
                handler(section)
                section.expect_end()

    def read_types(self, section: Reader) -> None:
        count = section.u32()
        _limit("types", count, MAX_TYPES)
        for _ in range(count):
            form = section.byte()
            if form != 0x60:
                raise AdmissionError("type_form", hex(form), "0x60, a function type")
            params, results = section.value_types(), section.value_types()
            _limit("params", len(params), MAX_PARAMS)
            _limit("results", len(results), MAX_RESULTS)
            self.types.append((params, results))

    def read_imports(self, section: Reader) -> None:
        count = section.u32()
        _limit("imports", count, MAX_EXPORTS)
        for _ in range(count):
            namespace, name, kind = section.name(), section.name(), section.byte()
            if kind != FUNC:
                raise AdmissionError("import_kind", f"{namespace}.{name}: {kind}", "functions only")
            self.imports.append((namespace, name, self.type_at(section.u32())))

    def read_functions(self, section: Reader) -> None:
        count = section.u32()
        _limit("functions", count, MAX_FUNCTIONS)
        self.functions = [self.type_at(section.u32()) for _ in range(count)]

    def read_tables(self, section: Reader) -> None:
        self.tables = section.u32()
        _limit("tables", self.tables, MAX_TABLES)
        for _ in range(self.tables):
            element = section.byte()
            if element != 0x70:
                raise AdmissionError("table_type", hex(element), "0x70, funcref")
            _limit("table_elements", section.limits(), MAX_TABLE_ELEMENTS)

    def read_memories(self, section: Reader) -> None:
        count = section.u32()
        if count != 1:
            raise AdmissionError("memories", count, "exactly 1")
        pages = section.limits()
        _limit("memory_pages", pages, MAX_MEMORY_PAGES)
        self.memories.append(pages)

    def read_globals(self, section: Reader) -> None:
        # every global is a slot of every instance, initialised without fuel
        _limit("globals", section.u32(), MAX_GLOBALS)
        section.skip_rest()

    def read_exports(self, section: Reader) -> None:
        count = section.u32()
        _limit("exports", count, MAX_EXPORTS)
        for _ in range(count):
            name, kind, index = section.name(), section.byte(), section.u32()
            if name in self.exports:
                raise Malformed(f"export {name!r} appears twice")
            self.exports[name] = (kind, index)

    def read_start(self, section: Reader) -> None:
        section.u32()
        self.has_start = True

    def read_code(self, section: Reader) -> None:
        self.bodies = section.u32()
        if self.bodies != len(self.functions):
            raise Malformed(f"{self.bodies} bodies for {len(self.functions)} functions")
        opens_loop = _loop_pattern(len(self.types))
        for params, _ in self.functions:
            size = section.u32()
            _limit("body_bytes", size, MAX_BODY_BYTES)
            body = section.sub(size)
            variables = len(params)
            groups = body.u32()
            _limit("locals", groups, MAX_LOCALS)
            for _ in range(groups):
                variables += body.u32()
                body.byte()
                _limit("locals", variables, MAX_LOCALS)
            self.weight += (variables + 8) * size
            loops = len(opens_loop.findall(section.data, body.at, body.end))
            self.loop_weight += loops * variables + loops * loops // 100
        _limit("weight", self.weight, MAX_WEIGHT)
        _limit("loop_weight", self.loop_weight, MAX_LOOP_WEIGHT)

    def type_at(self, index: int) -> FuncType:
        if index >= len(self.types):
            raise Malformed(f"type {index} of {len(self.types)}")
        return self.types[index]

    def finish(self) -> ModuleSummary:
        if self.bodies != len(self.functions):
            raise Malformed(f"{self.bodies} bodies for {len(self.functions)} functions")
        if not self.memories:
            raise AdmissionError("memories", 0, "exactly 1")
        if self.exports.get("memory") != (MEMORY, 0):
            raise AdmissionError("export", "no memory 'memory'", "an exported memory")
        all_functions = [signature for _, _, signature in self.imports] + self.functions
        for name, signature in REQUIRED_EXPORTS:
            if name not in self.exports:
                raise AdmissionError("export", f"no '{name}'", _show(signature))
            self.check_export(name, signature, all_functions)
        for name, signature in OPTIONAL_EXPORTS:
            if name in self.exports:
                self.check_export(name, signature, all_functions)
        return ModuleSummary(
            imports=tuple(self.imports),
            memory_pages=self.memories[0],
            functions=len(self.functions),
            weight=self.weight,
            loop_weight=self.loop_weight,
            has_start=self.has_start,
        )

    def check_export(self, name: str, signature: FuncType, functions: Sequence[FuncType]) -> None:
        kind, index = self.exports[name]
        if kind != FUNC:
            raise AdmissionError("export_type", f"'{name}' of kind {kind}", _show(signature))
        if index >= len(functions):
            raise Malformed(f"export {name!r}: function {index} of {len(functions)}")
        if functions[index] != signature:
            raise AdmissionError(
                "export_type", f"'{name}' {_show(functions[index])}", _show(signature)
            )
