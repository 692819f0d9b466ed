from __future__ import annotations

import hashlib

import pytest

from protocol.codec import ZERO_DIGEST
from protocol.records.challenge_storage import (
    MAX_VALUE_BYTES,
    MAX_WRITTEN_BYTES,
    StorageWrite,
    are_well_formed,
    writes_hash,
)


def writes(*pairs: tuple[bytes, bytes]) -> tuple[StorageWrite, ...]:
    return tuple(StorageWrite(key=key, value=value) for key, value in pairs)


def test_the_writes_hash_is_what_the_docstring_says() -> None:
    parts = b"\0\0\0\x01a\0\0\0\x011\0\0\0\x01b\0\0\0\x0222"
    expected = hashlib.sha256(b"platform/writes/v1\0" + parts).digest()
    assert writes_hash(writes((b"a", b"1"), (b"b", b"22"))) == expected
    assert writes_hash(()) == ZERO_DIGEST


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ((), True),
        (writes((b"a", b""), (b"b", b"1")), True),
        (writes((b"b", b"1"), (b"a", b"1")), False),
        (writes((b"a", b"1"), (b"a", b"2")), False),
        (writes((b"a", bytes(MAX_VALUE_BYTES)), (b"b", bytes(MAX_VALUE_BYTES - 2))), True),
        (writes((b"a", bytes(MAX_VALUE_BYTES)), (b"b", bytes(MAX_VALUE_BYTES - 1))), False),
    ],
)
def test_what_is_well_formed(made: tuple[StorageWrite, ...], expected: bool) -> None:
    assert MAX_WRITTEN_BYTES == 2 * MAX_VALUE_BYTES
    assert are_well_formed(made) is expected
