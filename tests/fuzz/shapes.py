"""Valid encodings of any record, made from its type alone.

A record's fields carry their bounds, so a Hypothesis strategy can be read off its type: a new kind
of record needs nothing here. `examples` draws the same values each time.
"""

from __future__ import annotations

from typing import Any

import msgspec.inspect as shape
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from protocol.codec import encode

MAX_BYTES = 300
MAX_MEMBERS = 3


def values_of(kind: Any) -> SearchStrategy[Any]:
    """Return a strategy for the values of a record, a union of records, or a tuple of them."""
    return _values(shape.type_info(kind))


def examples(kind: Any, count: int = 12) -> tuple[bytes, ...]:
    """Return valid encodings of `kind`, without doubles, the same at each call."""
    found: dict[bytes, None] = {}

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(values_of(kind))
    def draw(value: Any) -> None:
        found[encode(value)] = None

    draw()
    return tuple(found)


def _values(kind: shape.Type) -> SearchStrategy[Any]:
    match kind:
        case shape.Metadata():
            return _values(kind.type)
        case shape.NoneType():
            return st.none()
        case shape.BoolType():
            return st.booleans()
        case shape.LiteralType():
            return st.sampled_from(sorted(kind.values, key=repr))
        case shape.EnumType():
            return st.sampled_from(list(kind.cls))
        case shape.UnionType():
            return st.one_of([_values(member) for member in kind.types])
        case shape.StructType():
            return _struct(kind)
        case _:
            return _bounded(kind)


def _struct(kind: shape.StructType) -> SearchStrategy[Any]:
    fields = {field.name: _values(field.type) for field in kind.fields}
    return st.builds(kind.cls, **fields)


def _bounded(kind: shape.Type) -> SearchStrategy[Any]:
    match kind:
        case shape.IntType():
            low = -(2**63) if kind.ge is None else kind.ge
            return st.integers(low, 2**63 - 1 if kind.le is None else kind.le)
        case shape.BytesType():
            return st.binary(min_size=kind.min_length or 0, max_size=_most(kind, MAX_BYTES))
        case shape.StrType(pattern=None):
            return st.text(min_size=kind.min_length or 0, max_size=_most(kind, MAX_BYTES))
        case shape.StrType():
            return st.from_regex(str(kind.pattern), fullmatch=True).filter(
                lambda text: len(text) <= (kind.max_length or MAX_BYTES)
            )
        case shape.VarTupleType() | shape.ListType():
            members = st.lists(
                _values(kind.item_type),
                min_size=kind.min_length or 0,
                max_size=_most(kind, MAX_MEMBERS),
            )
            return members.map(tuple) if isinstance(kind, shape.VarTupleType) else members
        case shape.TupleType():
            return st.tuples(*(_values(member) for member in kind.item_types))
        case _:
            raise NotImplementedError(f"no values for {kind}: add a case for it")


def _most(kind: Any, usual: int) -> int:
    most: int = max(
        kind.min_length or 0, min(usual, usual if kind.max_length is None else kind.max_length)
    )
    return most
