"""`docs/limits.md` says what the code does: each bound by its name, its value, and none missing."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("validator_node", "runtime", "storage", "consensus", "protocol", "registry", "chain")
UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "s": 1, "ms": 1}
ROW = re.compile(r"^\| `([\w.]+:[\w.]+)` [^|]+ \| ([^|]+) \| [^|]+ \| [^|]+ \| ([^|]+) \|$")
VALUE = re.compile(r"([\d,]+(?:\.\d+)?)(?: (\w+))?")
TOKEN = re.compile(r"`([^`]+)`")
BOUND = re.compile(
    r"_?(?:MAX|MOST|LONGEST|PER|TOTAL|KEPT|REMEMBERED|PARALLEL|CREDIT|LIMIT|CAPACITY|QUEUE|RESERVED"
    r"|PENDING|CONSUMERS|TRIES|RETRIES)(?:_\w+)?"
    r"|\w+_(?:LIMIT|CAPACITY|QUEUE|TOTAL|RESERVE|PER_PEER|PER_STREAM|AT_ONCE|BYTES|CREDIT|WAITING"
    r"|PER_S|LIMIT_S|LIMIT_BYTES|AT_MOST_S|TRIES|CALLS|OUTSTANDING|SEGMENTS|EPOCHS)"
)
LEFT_OUT_MODULES = {
    "protocol.": "the form of records and proofs: what is longer does not decode",
    "runtime.admission_": "rules of what a module may be, in docs/challenges.md; not filled by use",
    "runtime.component_modules": "rules of what a module may be",
    "runtime.component_rules": "rules of what a module may be",
    "runtime.contest": "the form of a contest's records",
    "runtime.outcome": "the form of an outcome",
    "registry.spec": "what a challenge's file may say",
    "chain.devchain.": "a chain for tests and trials, with one operator's machine behind it",
    "validator_node.testnet.": "trials on the operator's own machine",
}
LEFT_OUT = {
    "validator_node.sync.log_reader:PARALLEL": "how the work is cut, not filled by others",
    "validator_node.sync.log_reader:CHECKED_AT_ONCE": "how the work is cut, not filled by others",
    "validator_node.sync.sources:MAX_PATIENCE_S": "how the work is cut, not filled by others",
    "chain.bittensor.writes:_MOST_MECHANISMS": "the chain's own rule",
    "chain.bittensor.writes:_MOST_VERSION_KEY": "the chain's own rule",
    "chain.interface:MAX_UID": "the chain's own rule",
    "chain.interface:MAX_WEIGHT": "the chain's own rule",
    "chain.submission_state:MAX_TARGETS": "the form of a record",
    "chain.submission_state:Limits.landing_blocks": "measured of the chain when it is connected",
    "chain.submission_state:Limits.read_back_blocks": "measured of the chain when it is connected",
    "consensus.feasibility:SIGNATURE_BYTES": "a measured length",
    "consensus.feasibility:CERTIFICATE_BYTES": "a measured length",
    "runtime.compile_child:MAX_DETAIL_CHARS": "cuts the words of an error",
    "runtime.wire:MAX_DETAIL_CHARS": "cuts the words of an error",
    "runtime.compiler:READ_BYTES": "a read's buffer",
    "runtime.worker_process:READ_BYTES": "a read's buffer",
    "storage.leveldb_errors:_LONGEST_WORDS": "cuts the words of an error",
    "validator_node.network.streams:_READ_BYTES": "a read's buffer",
    "validator_node.network.upstream.varint_reads:_READ_BYTES": "a read's buffer",
    "validator_node.network.upstream.varint_reads:_MAX_VARINT_BYTES": "the form of a number",
    "validator_node.network.upstream.yamux_flow_control:_CHUNK_BYTES": "a write's part",
}
FIXED = re.compile(
    r".*:_?(?:HASH|KEY|MAC|SALT|SEED|SEQ|SLOT|DIGEST|LENGTH|PREFIX|PAGE|NODE|EPOCH|SECTOR|EXTERN"
    r"|SIGNATURE|JOURNAL_ID|\w+_HEADER|\w+_OVERHEAD)_BYTES"
)
"""Lengths of one thing's form; nobody fills them."""


class Row(NamedTuple):
    """One row of the page."""

    name: str
    value: str
    counter: str


@cache
def rows() -> tuple[Row, ...]:
    text = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    found = [ROW.match(line) for line in lines]
    assert [line for line, row in zip(lines, found, strict=True) if row is None] == []
    return tuple(Row(*row.groups()) for row in found if row is not None)


def value_of(name: str) -> Any:
    """Return what `module:NAME` is; a field by its default, an entry by its key."""
    module, path = name.split(":")
    found: Any = import_module(module)
    for part in path.split("."):
        if isinstance(found, dict):
            found = found[part]
        elif isinstance(found, type) and dataclasses.is_dataclass(found):
            found = next(field.default for field in dataclasses.fields(found) if field.name == part)
        elif hasattr(found, "model_fields"):
            found = found.model_fields[part].default
        elif hasattr(found, "__struct_defaults__"):
            defaults = found.__struct_defaults__
            found = dict(zip(found.__struct_fields__[-len(defaults) :], defaults, strict=True))[
                part
            ]
        else:
            found = getattr(found, part)
    return found


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_a_row_names_a_bound_and_its_value(row: Row) -> None:
    said = VALUE.match(row.value)
    assert said is not None, f"{row.name}: no number in {row.value!r}"
    number, unit = said.groups()
    assert unit is None or unit in UNITS or unit in {"characters"}, f"{row.name}: unit {unit!r}"
    assert (unit == "ms") == row.name.lower().endswith("_ms"), f"{row.name}: in {unit}"
    is_value = Fraction(number.replace(",", "")) * UNITS.get(unit or "", 1)
    found = value_of(row.name)
    assert is_value == Fraction(str(found)), f"{row.name} is {found}, the page says {row.value}"


def trees() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
            yield name, ast.parse(path.read_text(encoding="utf-8"))


@cache
def words() -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Return all string literals, those of the metrics, and how formatted strings begin."""
    literals, metrics, begins = set[str](), set[str](), set[str]()
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                literals.add(node.value)
                if name == "validator_node.gauges":
                    metrics.add(node.value)
            elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
                begins.add(str(node.values[0].value))
    fields = {
        target.target.id
        for _, tree in trees()
        for target in ast.walk(tree)
        if isinstance(target, ast.AnnAssign) and isinstance(target.target, ast.Name)
    }
    return frozenset(literals | fields), frozenset(metrics), frozenset(begins)


def is_counted(reason: str) -> bool:
    literals, _, begins = words()
    return reason in literals or any(
        reason.removeprefix(begin) in literals for begin in begins if reason.startswith(begin)
    )


@pytest.mark.parametrize(
    "row", [row for row in rows() if row.counter != "none"], ids=lambda row: row.name
)
def test_a_counter_stands_in_the_code(row: Row) -> None:
    tokens = TOKEN.findall(row.counter)
    assert tokens, f"{row.name}: no counter in backticks and not none: {row.counter!r}"
    literals, metrics, _ = words()
    for token in tokens:
        metric, _, label = token.removesuffix("}").partition("{")
        if metric.startswith("validator_"):
            assert metric.removeprefix("validator_") in metrics, f"{row.name}: no metric {metric}"
            assert not label or is_counted(label), f"{row.name}: nothing counts {label}"
            continue
        name, slash, reason = token.partition("/")
        assert slash, f"{row.name}: {token} is neither a metric nor name/reason"
        assert name in literals, f"{row.name}: no counter {name}"
        assert is_counted(reason), f"{row.name}: nobody counts {token}"


def is_left_out(name: str) -> bool:
    return (
        name.startswith(tuple(LEFT_OUT_MODULES))
        or name in LEFT_OUT
        or FIXED.fullmatch(name) is not None
    )


def constants(module: str, tree: ast.Module) -> Iterator[str]:
    """Yield the numbers a module gives a name, and the fields of its classes of limits."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Limits"):
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    yield f"{module}:{node.name}.{field.target.id}"
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name) and BOUND.fullmatch(target.id):
                yield f"{module}:{target.id}"


def test_no_bound_is_missing() -> None:
    named = {row.name for row in rows()}
    missing = []
    for module, tree in trees():
        for name in constants(module, tree):
            if name in named or is_left_out(name):
                continue
            if "." in name.split(":")[1] or isinstance(value_of(name), int | float):
                missing.append(name)
    assert missing == [], f"in no row of docs/limits.md: {missing}"


def test_no_bound_stands_twice_or_is_left_out_in_vain() -> None:
    names = [row.name for row in rows()]
    assert len(names) == len(set(names)), "a bound has two rows"
    assert [name for name in LEFT_OUT if name in names] == []
    found = {name for module, tree in trees() for name in constants(module, tree)}
    assert [name for name in LEFT_OUT if name not in found] == [], "left out, and not a bound"


def test_each_kind_of_record_has_its_rows() -> None:
    from validator_node.records.limits import RECORD_LIMITS

    place = "validator_node.records.limits:RECORD_LIMITS"
    named = {row.name for row in rows()}
    wanted = {f"{place}.{kind}.{part}" for kind in RECORD_LIMITS for part in ("count", "size")}
    assert wanted <= named
