"""Which components may be registered and run: a check of the bytes before any compiling.

Rules:
1. As in `runtime.admission`: pure, bytes and policy in, a summary or an `AdmissionError` out, each
   naming the rule, the figure found and the limit (`runtime.component_rules` lists them all). The
   profile is told by the header alone.
2. A component imports nothing: no WASI, no clock, no file. Its core modules may import from each
   other; the engine checks that everything fits.
3. It has no start function, and a component inside only gives names to types (componentize-py
   leaves one), so nothing runs but its core modules' own initialisation, under fuel.
4. It exports either `evaluate` alone, or the four functions of a contest (`runtime.contest`), each
   taking strings and returning a string. Names are checked here, types after compiling. An exported
   instance (componentize-py leaves `exports`) is never called.
5. Each core module is instantiated once, so what its bytes say counts once, and no store's limit is
   ever reached by instantiating.
6. What compiles slowly never reaches the compiler. CPython by componentize-py takes 19 CPU-s, and
   the limits are about twice its figures. At one limit each, what was tried takes 35 CPU-s at most
   (branches in many functions, loads); 500 kB of branches in one function took more than 69.
"""

from __future__ import annotations

from protocol.records.challenge import RuntimePolicy
from runtime.component_modules import CoreModules
from runtime.component_rules import (
    CONTEST,
    HEADER,
    MAX_COMPONENT_BYTES,
    MAX_DEFINITIONS,
    MAX_MEMORIES,
    MAX_MODULES,
    MAX_SECTIONS,
    MAX_TABLES,
    MAX_TYPE_BYTES,
    PARAMETERS,
    SINGLE,
    ComponentRule,
    ComponentSummary,
    limit,
    refusal,
)
from runtime.engine import MAX_MEMORY_PAGES, MAX_TABLE_ELEMENTS
from runtime.wasm_reader import Malformed, Reader

__all__ = (
    "CONTEST",
    "HEADER",
    "MAX_MEMORIES",
    "MAX_MODULES",
    "MAX_TABLES",
    "MAX_TABLE_ELEMENTS",
    "PARAMETERS",
    "SINGLE",
    "ComponentRule",
    "ComponentSummary",
    "check_component_policy",
    "is_component",
    "summarise_component",
)

_MODULE, _CORE_INSTANCE, _CORE_TYPE, _COMPONENT, _INSTANCE, _ALIAS, _TYPE, _CANON = range(1, 9)
_START, _IMPORT, _EXPORT = 9, 10, 11
_COUNTED = frozenset({_CORE_INSTANCE, _CORE_TYPE, _INSTANCE, _ALIAS, _TYPE, _CANON})
_SORT_FUNCTION, _SORT_INSTANCE = 1, 5
_INSTANTIATE, _GATHER = 0, 1
"""A core instance is made of a module, or of what others export."""


def is_component(module: bytes) -> bool:
    """Whether these bytes claim to be a component."""
    return module[: len(HEADER)] == HEADER


def summarise_component(component: bytes) -> ComponentSummary:
    """Check all rules that need no policy. Raises `AdmissionError`."""
    limit(ComponentRule.COMPONENT_BYTES, len(component), MAX_COMPONENT_BYTES)
    if not is_component(component):
        raise refusal(ComponentRule.MAGIC, component[:8].hex() or "nothing", HEADER.hex())
    scan = _Scan()
    try:
        scan.read(Reader(component, len(HEADER), len(component)))
    except Malformed as error:
        expected = "a WebAssembly component"
        raise refusal(ComponentRule.MALFORMED, str(error), expected) from error
    return scan.finish()


def check_component_policy(summary: ComponentSummary, policy: RuntimePolicy) -> None:
    """Check the memory, the one thing a policy says about a component. Raises `AdmissionError`."""
    pages = min(policy.memory_pages, MAX_MEMORY_PAGES)
    limit(ComponentRule.MEMORY_PAGES, summary.memory_pages, pages)


class _Scan:
    """Reads the component's sections, leaves the core modules to `CoreModules`, and sums up."""

    def __init__(self) -> None:
        self.core = CoreModules()
        self.modules = 0
        self.instantiated: set[int] = set()
        self.sections = 0
        self.definitions = 0
        self.type_bytes = 0
        self.exports: list[str] = []

    def read(self, reader: Reader) -> None:
        while not reader.at_end():
            kind = reader.byte()
            section = reader.sub(reader.u32())
            self.sections += 1
            limit(ComponentRule.SECTIONS, self.sections, MAX_SECTIONS)
            if kind > _EXPORT:
                raise refusal(ComponentRule.SECTION, kind, f"0 to {_EXPORT}")
            if kind == _START:
                raise refusal(ComponentRule.START, "a start function", "none")
            if kind in {_TYPE, _CORE_TYPE, _COMPONENT}:
                self.type_bytes += section.end - section.at
                limit(ComponentRule.TYPE_BYTES, self.type_bytes, MAX_TYPE_BYTES)
            if kind in _COUNTED:
                self.read_definitions(kind, section)
            elif kind == _IMPORT:
                limit(ComponentRule.IMPORTS, section.u32(), 0)
            elif kind == _MODULE:
                self.modules += 1
                limit(ComponentRule.MODULES, self.modules, MAX_MODULES)
                self.core.read(section)
            elif kind == _COMPONENT:
                self.read_names(section)
            elif kind == _EXPORT:
                self.read_exports(section)

    def read_definitions(self, kind: int, section: Reader) -> None:
        count = section.u32()
        self.definitions += count
        limit(ComponentRule.DEFINITIONS, self.definitions, MAX_DEFINITIONS)
        if kind == _CORE_INSTANCE:
            for _ in range(count):
                self.read_core_instance(section)
            section.expect_end()

    def read_core_instance(self, section: Reader) -> None:
        form = section.byte()
        if form == _INSTANTIATE:
            # a component's modules are those it holds: none can be imported or aliased
            module = section.u32()
            if module >= self.modules:
                raise Malformed(f"module {module} of {self.modules}")
            if module in self.instantiated:
                raise refusal(ComponentRule.INSTANCES, f"module {module} twice", "once")
            self.instantiated.add(module)
        elif form != _GATHER:
            raise Malformed(f"a core instance of form {form} before byte {section.at}")
        for _ in range(section.u32()):
            section.sub(section.u32())  # a name
            section.byte()
            section.u32()

    def read_names(self, inner: Reader) -> None:
        head = inner.sub(len(HEADER))
        if inner.data[head.at : head.end] != HEADER:
            raise Malformed(f"an inner component of another version at byte {head.at}")
        while not inner.at_end():
            kind = inner.byte()
            if kind not in {0, _TYPE, _IMPORT, _EXPORT}:
                raise refusal(
                    ComponentRule.COMPONENTS, f"section {kind} in an inner one", "types only"
                )
            inner.sub(inner.u32())

    def read_exports(self, section: Reader) -> None:
        for _ in range(section.u32()):
            section.byte()  # plain, or interface; the name tells them apart
            name = section.name()
            shown = f"'{name[:64]}'"
            sort = section.byte()
            if sort not in {_SORT_FUNCTION, _SORT_INSTANCE}:
                raise refusal(ComponentRule.EXPORT_KIND, f"{shown} of kind {sort}", "functions")
            section.u32()
            if section.byte() != 0:
                raise refusal(ComponentRule.EXPORT_TYPE, f"{shown} ascribed", "a plain export")
            if sort == _SORT_FUNCTION:
                self.exports.append(name)

    def finish(self) -> ComponentSummary:
        exports = tuple(sorted(self.exports))
        if exports not in {SINGLE, CONTEST}:
            found = ", ".join(exports)[:256] or "nothing"
            raise refusal(ComponentRule.EXPORT, found, f"evaluate, or {', '.join(CONTEST)}")
        return ComponentSummary(
            exports=exports,
            modules=self.modules,
            memory_pages=self.core.pages,
            functions=self.core.functions,
            weight=self.core.weight,
            loop_weight=self.core.loop_weight,
        )
