"""Reads the core modules inside a component and sums up what they hold.

Rules:
1. As in `runtime.admission_parser`: each byte is read at most once. A body is not decoded: what is
   counted in it are bytes that may be such an instruction. `AdmissionError` for a broken rule,
   `Malformed` for bytes that are not the format.
2. One `CoreModules` reads all modules of a component, and every limit is one of sums. What the
   modules import from each other is counted, not resolved: the engine checks that it fits.
3. Unlike a core challenge's module, these share memory and tables by imports, need no particular
   exports, and place their data at a base plus an offset.
"""

from __future__ import annotations

import re

from runtime.admission_parser import loop_pattern
from runtime.admission_rules import MAX_PARAMS, MAX_RESULTS
from runtime.component_rules import (
    MAX_BODY_BYTES,
    MAX_BRANCH_WEIGHT,
    MAX_CALLS,
    MAX_CODE_BYTES,
    MAX_DATA_SEGMENTS,
    MAX_ELEMENT_SEGMENTS,
    MAX_ELEMENTS,
    MAX_EXPORTS,
    MAX_FLOATS,
    MAX_FUNCTIONS,
    MAX_GLOBALS,
    MAX_IMPORTS,
    MAX_INITIAL_VALUE,
    MAX_LOCALS,
    MAX_LOOP_WEIGHT,
    MAX_MEMORIES,
    MAX_TABLE_ELEMENTS,
    MAX_TABLES,
    MAX_TYPES,
    MAX_WEIGHT,
    MODULE_HEADER,
    ComponentRule,
    limit,
    refusal,
)
from runtime.engine import MAX_MEMORY_PAGES
from runtime.wasm_costs import (
    begin_elements,
    branch_weight,
    loop_weight,
    skip_data,
    skip_elements,
)
from runtime.wasm_reader import Malformed, Reader

FUNCREF = 0x70
END = 0x0B
_NUMBER = frozenset({0x41, 0x42, 0x23, 0xD2, 0xD0})
"""Constant instructions followed by a LEB128 number: i32.const, i64.const, global.get, ref.func,
ref.null."""
_MAX_NUMBER_BYTES = 10
_FLOAT_BYTES = {0x43: 4, 0x44: 8}
_ARITHMETIC = frozenset({0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E})
"""Add, subtract and multiply, of 32 and 64 bits."""
_FLOATS = bytes(range(0x8B, 0xA7))
"""From f32.abs to f64.copysign."""
_CALL = re.compile(b"[\x10\x11]|\x40\x00|\xfc[\x08-\x11]", re.DOTALL)
_FUNC, _TABLE, _MEMORY, _GLOBAL = 0, 1, 2, 3
_LAST_SECTION = 12


def skip_initial_value(section: Reader) -> None:
    """Step over an initial value: a few constant instructions and the end."""
    for _ in range(MAX_INITIAL_VALUE + 1):
        opcode = section.byte()
        if opcode == END:
            return
        if opcode in _FLOAT_BYTES:
            section.sub(_FLOAT_BYTES[opcode])
        elif opcode in _NUMBER:
            start = section.at
            while section.byte() >= 0x80:
                if section.at - start == _MAX_NUMBER_BYTES:
                    raise Malformed(f"the number before byte {section.at} is too long")
        elif opcode not in _ARITHMETIC:
            raise refusal(ComponentRule.INITIAL_VALUE, hex(opcode), "constant instructions")
    found = f"more than {MAX_INITIAL_VALUE} instructions"
    raise refusal(ComponentRule.INITIAL_VALUE, found, MAX_INITIAL_VALUE)


class CoreModules:
    """What was found so far in all core modules."""

    def __init__(self) -> None:
        self.types = 0
        self.imports = 0
        self.exports = 0
        self.functions = 0
        self.tables = 0
        self.table_elements = 0
        self.memories = 0
        self.pages = 0
        self.globals = 0
        self.element_segments = 0
        self.elements = 0
        self.data_segments = 0
        self.code_bytes = 0
        self.weight = 0
        self.loop_weight = 0
        self.branch_weight = 0
        self.calls = 0
        self.floats = 0
        # of the module in hand
        self._params: list[int] = []
        self._functions: list[int] = []
        self._handlers = {
            1: self._read_types,
            2: self._read_imports,
            3: self._read_functions,
            4: self._read_tables,
            5: self._read_memories,
            6: self._read_globals,
            7: self._read_exports,
            9: self._read_elements,
            10: self._read_code,
            11: self._read_data,
        }

    def read(self, module: Reader) -> None:
        """Read one module. Raises `AdmissionError` or `Malformed`."""
        head = module.sub(len(MODULE_HEADER))
        if module.data[head.at : head.end] != MODULE_HEADER:
            raise Malformed(f"a core module of another version at byte {head.at}")
        self._params, self._functions = [], []
        seen = set()
        while not module.at_end():
            kind = module.byte()
            section = module.sub(module.u32())
            if kind > _LAST_SECTION:
                raise refusal(ComponentRule.SECTION, kind, f"0 to {_LAST_SECTION}")
            if kind and kind in seen:
                raise Malformed(f"section {kind} appears twice before byte {module.at}")
            seen.add(kind)
            handler = self._handlers.get(kind)
            if handler is not None:
                handler(section)
                section.expect_end()

    def _read_types(self, section: Reader) -> None:
        count = section.u32()
        self.types += count
        limit(ComponentRule.TYPES, self.types, MAX_TYPES)
        for _ in range(count):
            form = section.byte()
            if form != 0x60:
                raise refusal(ComponentRule.TYPE_FORM, hex(form), "0x60, a function type")
            params, results = section.value_types(), section.value_types()
            limit(ComponentRule.PARAMS, len(params), MAX_PARAMS)
            limit(ComponentRule.RESULTS, len(results), MAX_RESULTS)
            self._params.append(len(params))

    def _read_imports(self, section: Reader) -> None:
        count = section.u32()
        self.imports += count
        limit(ComponentRule.IMPORTS, self.imports, MAX_IMPORTS)
        for _ in range(count):
            namespace, name, kind = section.name(), section.name(), section.byte()
            if kind == _FUNC:
                section.u32()
            elif kind == _TABLE:
                self._table(section)
            elif kind == _MEMORY:
                section.limits()
            elif kind == _GLOBAL:
                section.sub(2)
            else:
                found = f"{namespace[:64]}.{name[:64]}: {kind}"
                raise refusal(ComponentRule.IMPORT_KIND, found, "0 to 3")

    def _read_functions(self, section: Reader) -> None:
        count = section.u32()
        self.functions += count
        limit(ComponentRule.FUNCTIONS, self.functions, MAX_FUNCTIONS)
        for _ in range(count):
            kind = section.u32()
            if kind >= len(self._params):
                raise Malformed(f"type {kind} of {len(self._params)}")
            self._functions.append(self._params[kind])

    def _read_tables(self, section: Reader) -> None:
        count = section.u32()
        self.tables += count
        limit(ComponentRule.TABLES, self.tables, MAX_TABLES)
        for _ in range(count):
            self.table_elements += self._table(section)
        limit(ComponentRule.TABLE_ELEMENTS, self.table_elements, MAX_TABLE_ELEMENTS)

    def _table(self, section: Reader) -> int:
        element = section.byte()
        if element != FUNCREF:
            raise refusal(ComponentRule.TABLE_TYPE, hex(element), "0x70, funcref")
        return section.limits()

    def _read_memories(self, section: Reader) -> None:
        count = section.u32()
        self.memories += count
        limit(ComponentRule.MEMORIES, self.memories, MAX_MEMORIES)
        for _ in range(count):
            self.pages += section.limits()
        limit(ComponentRule.MEMORY_PAGES, self.pages, MAX_MEMORY_PAGES)

    def _read_globals(self, section: Reader) -> None:
        count = section.u32()
        self.globals += count
        limit(ComponentRule.GLOBALS, self.globals, MAX_GLOBALS)
        for _ in range(count):
            section.sub(2)  # the engine checks type and mutability
            skip_initial_value(section)

    def _read_exports(self, section: Reader) -> None:
        count = section.u32()
        self.exports += count
        limit(ComponentRule.EXPORTS, self.exports, MAX_EXPORTS)
        for _ in range(count):
            section.sub(section.u32())
            section.byte()
            section.u32()

    def _read_elements(self, section: Reader) -> None:
        count = section.u32()
        self.element_segments += count
        limit(ComponentRule.ELEMENT_SEGMENTS, self.element_segments, MAX_ELEMENT_SEGMENTS)
        for _ in range(count):
            flags, entries = begin_elements(section, skip_initial_value)
            self.elements += entries
            limit(ComponentRule.ELEMENTS, self.elements, MAX_ELEMENTS)
            skip_elements(section, flags, entries, skip_initial_value)

    def _read_code(self, section: Reader) -> None:
        bodies = section.u32()
        if bodies != len(self._functions):
            raise Malformed(f"{bodies} bodies for {len(self._functions)} functions")
        opens_loop = loop_pattern(len(self._params))
        for params in self._functions:
            size = section.u32()
            limit(ComponentRule.BODY_BYTES, size, MAX_BODY_BYTES)
            body = section.sub(size)
            variables = params
            groups = body.u32()
            limit(ComponentRule.LOCALS, groups, MAX_LOCALS)
            for _ in range(groups):
                variables += body.u32()
                body.byte()
                limit(ComponentRule.LOCALS, variables, MAX_LOCALS)
            self.code_bytes += size
            self.weight += (variables + 8) * size
            self._weigh(section.data[body.at : body.end], variables, opens_loop)
        limit(ComponentRule.CODE_BYTES, self.code_bytes, MAX_CODE_BYTES)
        limit(ComponentRule.WEIGHT, self.weight, MAX_WEIGHT)
        limit(ComponentRule.LOOP_WEIGHT, self.loop_weight, MAX_LOOP_WEIGHT)
        limit(ComponentRule.BRANCH_WEIGHT, self.branch_weight, MAX_BRANCH_WEIGHT)
        limit(ComponentRule.CALLS, self.calls, MAX_CALLS)
        limit(ComponentRule.FLOATS, self.floats, MAX_FLOATS)

    def _weigh(self, code: bytes, variables: int, opens_loop: re.Pattern[bytes]) -> None:
        size = len(code)
        loops = len(opens_loop.findall(code))
        self.loop_weight += loop_weight(loops, variables)
        self.branch_weight += branch_weight(code)
        self.floats += size - len(code.translate(None, _FLOATS))
        self.calls += len(_CALL.findall(code))

    def _read_data(self, section: Reader) -> None:
        count = section.u32()
        self.data_segments += count
        limit(ComponentRule.DATA_SEGMENTS, self.data_segments, MAX_DATA_SEGMENTS)
        for _ in range(count):
            skip_data(section, skip_initial_value)
