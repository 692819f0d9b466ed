"""Keys of the records in the DHT: `/<kind>/<network>/<id>`.

`kind` says what the value is and by which rule it is judged, `network` is the first 16 hex digits
of the network id, and `id` names one record of the kind:

| kind | id | value |
|---|---|---|
| `submission` | submission id, hex | signed submission |
| `result` | submission id, hex | receipt |
| `validators` | epoch, decimal | edge checkpoint of the epoch before, which names the set |
| `checkpoint` | `newest` | stable checkpoint |
| `evidence` | digest of the evidence, hex | two contradicting votes |
| `node` | hotkey, hex | signed node record |
| `blob`, `bundle` | sha256 of the value, hex | the bytes themselves |
| `collateral` | | reserved: always refused |

One record has one key: hex digits are lower-case, numbers have no leading zeros.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from protocol.errors import ProtocolError

MAX_KEY_BYTES: Final = 128
"""Longer keys are refused by every implementation of the DHT protocol."""
NEWEST: Final = "newest"
"""The one id of the kind `checkpoint`."""
_NETWORK_DIGITS: Final = 16
_KEY: Final = re.compile(r"/([a-z]{1,16})/([0-9a-f]{16})/([0-9a-z]{1,64})")
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")


class RecordKeyError(ProtocolError):
    """A text that is not the key of any record."""

    reason = "bad_record_key"


class DhtKind(StrEnum):
    """What a record is, the first part of its key."""

    SUBMISSION = "submission"
    RESULT = "result"
    VALIDATORS = "validators"
    CHECKPOINT = "checkpoint"
    EVIDENCE = "evidence"
    NODE = "node"
    BLOB = "blob"
    BUNDLE = "bundle"
    COLLATERAL = "collateral"


@dataclass(frozen=True)
class RecordKey:
    """A key in its parts; `str()` gives its text."""

    kind: str
    """One of `DhtKind`, or a word that this version does not know."""
    network: str
    id: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the parts of a key. Raises `RecordKeyError` if it has another form."""
        found = _KEY.fullmatch(text) if len(text) <= MAX_KEY_BYTES else None
        if found is None:
            raise RecordKeyError(f"{text[:64]!r} is no record key like /result/<network>/<id>")
        return cls(found[1], found[2], found[3])

    @classmethod
    def of(cls, kind: DhtKind, network_id: bytes, name: bytes | int | str) -> Self:
        """Return the key of a record: `name` is a digest, an epoch or a word."""
        text = name.hex() if isinstance(name, bytes) else str(name)
        return cls.parse(f"/{kind}/{network_digits(network_id)}/{text}")

    def digest(self) -> bytes:
        """Return the id as the 32 bytes it stands for; `RecordKeyError` for another id."""
        if _HEX.fullmatch(self.id) is None:
            raise RecordKeyError(f"{self}: the id is no 64 lower-case hex digits")
        return bytes.fromhex(self.id)

    def number(self) -> int:
        """Return the id as a number below 10**19; `RecordKeyError` for another id."""
        if _DECIMAL.fullmatch(self.id) is None:
            raise RecordKeyError(f"{self}: the id is no decimal number without leading zeros")
        return int(self.id)

    def __str__(self) -> str:
        return f"/{self.kind}/{self.network}/{self.id}"


def network_digits(network_id: bytes) -> str:
    """Return the part of a key that names the network."""
    return network_id.hex()[:_NETWORK_DIGITS]
