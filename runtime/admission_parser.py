"""Reads a module's sections in file order and applies each rule where its figure is found.

Rules:
1. Each byte is read at most once, and nothing is kept but figures, types and names: 4 MiB cost
   milliseconds. A body is searched for loops, not decoded.
2. `AdmissionError` for a broken rule, `Malformed` for bytes that are not the format; nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from runtime.admission_rules import (
    FUNC,
    MAX_BODY_BYTES,
    MAX_BRANCH_WEIGHT,
    MAX_DATA_SEGMENTS,
    MAX_ELEMENT_SEGMENTS,
    MAX_ELEMENTS,
    MAX_EXPORTS,
    MAX_FUNCTIONS,
    MAX_GLOBALS,
    MAX_IMPORTS,
    MAX_LOCALS,
    MAX_LOOP_WEIGHT,
    MAX_PARAMS,
    MAX_RESULTS,
    MAX_TABLES,
    MAX_TYPES,
    MAX_WEIGHT,
    MEMORY,
    OPTIONAL_EXPORTS,
    REQUIRED_EXPORTS,
    ModuleSummary,
    Rule,
    limit,
    refusal,
    show,
)
from runtime.engine import MAX_MEMORY_PAGES, MAX_TABLE_ELEMENTS
from runtime.wasm_costs import (
    begin_elements,
    branch_weight,
    loop_weight,
    skip_data,
    skip_elements,
)
from runtime.wasm_reader import FuncType, Malformed, Reader

FUNCREF = 0x70
END = 0x0B
_ARGUMENT_BYTES = {0x41: 5, 0x42: 10, 0x23: 5, 0xD2: 5, 0xD0: 5}
"""Constant instructions and how long their LEB128 argument may be: i32.const, i64.const,
global.get, ref.func, ref.null."""
_FLOAT_BYTES = {0x43: 4, 0x44: 8}


def loop_pattern(types: int) -> re.Pattern[bytes]:
    """Return what matches each place where a `loop` instruction may stand, and some where not.

    The opcode 0x03 is followed by a block type: empty, a value type, or a type's index.
    """
    block_types = b"\x40\x70\x7c-\x7f"
    if types > 0:
        # an index may be written in more bytes than it needs, so the first may exceed 0x7f
        block_types += b"\x00-" + re.escape(bytes((min(types, 0x40) - 1,))) + b"\x80-\xff"
    return re.compile(b"\x03(?=[" + block_types + b"])", re.DOTALL)


def skip_initial_value(section: Reader) -> None:
    """Step over an initial value: one constant instruction and the end.

    Raises `AdmissionError` for anything longer, such as extended constant expressions.
    """
    opcode = section.byte()
    if opcode in _FLOAT_BYTES:
        section.sub(_FLOAT_BYTES[opcode])
    elif opcode in _ARGUMENT_BYTES:
        start = section.at
        while section.byte() >= 0x80:
            if section.at - start == _ARGUMENT_BYTES[opcode]:
                raise Malformed(f"the number before byte {section.at} is too long")
    else:
        raise refusal(Rule.INITIAL_VALUE, hex(opcode), "one constant instruction")
    following = section.byte()
    if following != END:
        raise refusal(Rule.INITIAL_VALUE, f"then {hex(following)}", "one constant instruction")


class Parser:
    """What was found so far, one module a parser."""

    def __init__(self, module: bytes) -> None:
        self.reader = Reader(module, 8, len(module))
        self.types: list[FuncType] = []
        self.imports: list[tuple[str, str, FuncType]] = []
        self.functions: list[FuncType] = []
        self.bodies = 0
        self.tables = 0
        self.elements = 0
        self.memories: list[int] = []
        self.exports: dict[str, tuple[int, int]] = {}
        self.weight = 0
        self.loop_weight = 0
        self.branch_weight = 0
        self.has_start = False

    def read_sections(self) -> None:
        """Read everything. Raises `AdmissionError` or `Malformed`."""
        handlers = {
            1: self._read_types,
            2: self._read_imports,
            3: self._read_functions,
            4: self._read_tables,
            5: self._read_memories,
            6: self._read_globals,
            7: self._read_exports,
            8: self._read_start,
            9: self._read_elements,
            10: self._read_code,
            11: self._read_data,
        }
        seen = set()
        while not self.reader.at_end():
            kind = self.reader.byte()
            section = self.reader.sub(self.reader.u32())
            # 0 custom, 12 data count: bounded by the module's size alone
            if kind not in handlers and kind not in {0, 12}:
                raise refusal(Rule.SECTION, kind, "0 to 12")
            if kind != 0 and kind in seen:
                raise Malformed(f"section {kind} appears twice")
            seen.add(kind)
            handler = handlers.get(kind)
            if handler is not None:
                handler(section)
                section.expect_end()

    def finish(self) -> ModuleSummary:
        """Check what concerns several sections, and return what was found."""
        if self.bodies != len(self.functions):
            raise Malformed(f"{self.bodies} bodies for {len(self.functions)} functions")
        if not self.memories:
            raise refusal(Rule.MEMORIES, 0, "exactly 1")
        if self.exports.get("memory") != (MEMORY, 0):
            raise refusal(Rule.EXPORT, "no memory 'memory'", "an exported memory")
        all_functions = [signature for _, _, signature in self.imports] + self.functions
        for name, signature in REQUIRED_EXPORTS:
            if name not in self.exports:
                raise refusal(Rule.EXPORT, f"no '{name}'", show(signature))
            self._check_export(name, signature, all_functions)
        for name, signature in OPTIONAL_EXPORTS:
            if name in self.exports:
                self._check_export(name, signature, all_functions)
        return ModuleSummary(
            imports=tuple(self.imports),
            memory_pages=self.memories[0],
            functions=len(self.functions),
            weight=self.weight,
            loop_weight=self.loop_weight,
            has_start=self.has_start,
        )

    def _read_types(self, section: Reader) -> None:
        count = section.u32()
        limit(Rule.TYPES, count, MAX_TYPES)
        for _ in range(count):
            form = section.byte()
            if form != 0x60:
                raise refusal(Rule.TYPE_FORM, hex(form), "0x60, a function type")
            params, results = section.value_types(), section.value_types()
            limit(Rule.PARAMS, len(params), MAX_PARAMS)
            limit(Rule.RESULTS, len(results), MAX_RESULTS)
            self.types.append((params, results))

    def _read_imports(self, section: Reader) -> None:
        count = section.u32()
        limit(Rule.IMPORTS, count, MAX_IMPORTS)
        for _ in range(count):
            namespace, name, kind = section.name(), section.name(), section.byte()
            if kind != FUNC:
                raise refusal(Rule.IMPORT_KIND, f"{namespace}.{name}: {kind}", "functions only")
            self.imports.append((namespace, name, self._type_at(section.u32())))

    def _read_functions(self, section: Reader) -> None:
        count = section.u32()
        limit(Rule.FUNCTIONS, count, MAX_FUNCTIONS)
        self.functions = [self._type_at(section.u32()) for _ in range(count)]

    def _read_tables(self, section: Reader) -> None:
        self.tables = section.u32()
        limit(Rule.TABLES, self.tables, MAX_TABLES)
        for _ in range(self.tables):
            element = section.byte()
            if element != FUNCREF:
                raise refusal(Rule.TABLE_TYPE, hex(element), "0x70, funcref")
            limit(Rule.TABLE_ELEMENTS, section.limits(), MAX_TABLE_ELEMENTS)

    def _read_memories(self, section: Reader) -> None:
        count = section.u32()
        if count != 1:
            raise refusal(Rule.MEMORIES, count, "exactly 1")
        pages = section.limits()
        limit(Rule.MEMORY_PAGES, pages, MAX_MEMORY_PAGES)
        self.memories.append(pages)

    def _read_globals(self, section: Reader) -> None:
        # every global is a slot of every instance, initialised without fuel
        count = section.u32()
        limit(Rule.GLOBALS, count, MAX_GLOBALS)
        for _ in range(count):
            section.sub(2)  # the engine checks type and mutability
            skip_initial_value(section)

    def _read_exports(self, section: Reader) -> None:
        count = section.u32()
        limit(Rule.EXPORTS, count, MAX_EXPORTS)
        for _ in range(count):
            name, kind, index = section.name(), section.byte(), section.u32()
            if name in self.exports:
                raise Malformed(f"export {name!r} appears twice")
            self.exports[name] = (kind, index)

    def _read_start(self, section: Reader) -> None:
        section.u32()
        self.has_start = True

    def _read_elements(self, section: Reader) -> None:
        count = section.u32()
        limit(Rule.ELEMENT_SEGMENTS, count, MAX_ELEMENT_SEGMENTS)
        for _ in range(count):
            flags, entries = begin_elements(section, skip_initial_value)
            self.elements += entries
            limit(Rule.ELEMENTS, self.elements, MAX_ELEMENTS)
            skip_elements(section, flags, entries, skip_initial_value)

    def _read_code(self, section: Reader) -> None:
        self.bodies = section.u32()
        if self.bodies != len(self.functions):
            raise Malformed(f"{self.bodies} bodies for {len(self.functions)} functions")
        opens_loop = loop_pattern(len(self.types))
        for params, _ in self.functions:
            size = section.u32()
            limit(Rule.BODY_BYTES, size, MAX_BODY_BYTES)
            body = section.sub(size)
            variables = len(params)
            groups = body.u32()
            limit(Rule.LOCALS, groups, MAX_LOCALS)
            for _ in range(groups):
                variables += body.u32()
                body.byte()
                limit(Rule.LOCALS, variables, MAX_LOCALS)
            self.weight += (variables + 8) * size
            loops = len(opens_loop.findall(section.data, body.at, body.end))
            self.loop_weight += loop_weight(loops, variables)
            self.branch_weight += branch_weight(section.data[body.at : body.end])
        limit(Rule.WEIGHT, self.weight, MAX_WEIGHT)
        limit(Rule.LOOP_WEIGHT, self.loop_weight, MAX_LOOP_WEIGHT)
        limit(Rule.BRANCH_WEIGHT, self.branch_weight, MAX_BRANCH_WEIGHT)

    def _read_data(self, section: Reader) -> None:
        count = section.u32()
        limit(Rule.DATA_SEGMENTS, count, MAX_DATA_SEGMENTS)
        for _ in range(count):
            skip_data(section, skip_initial_value)

    def _type_at(self, index: int) -> FuncType:
        if index >= len(self.types):
            raise Malformed(f"type {index} of {len(self.types)}")
        return self.types[index]

    def _check_export(self, name: str, signature: FuncType, functions: Sequence[FuncType]) -> None:
        kind, index = self.exports[name]
        if kind != FUNC:
            raise refusal(Rule.EXPORT_TYPE, f"'{name}' of kind {kind}", show(signature))
        if index >= len(functions):
            raise Malformed(f"export {name!r}: function {index} of {len(functions)}")
        if functions[index] != signature:
            found = f"'{name}' {show(functions[index])}"
            raise refusal(Rule.EXPORT_TYPE, found, show(signature))
