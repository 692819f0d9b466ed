"""How much of each kind a node keeps for others: about 150 MiB in all at the very most.

Bundles and blobs may be put by anybody about anything, so they get little: whoever needs them to
last holds them and is found as their provider. What is signed by validators gets what it needs.
"""

from __future__ import annotations

from typing import Final

from protocol.records.record_key import DhtKind
from storage.record_store import GroupLimit

_MIB: Final = 1024 * 1024

RECORD_LIMITS: Final[dict[str, GroupLimit]] = {
    DhtKind.SUBMISSION: GroupLimit(count=4_096, size=4 * _MIB),
    DhtKind.RESULT: GroupLimit(count=4_096, size=32 * _MIB),
    DhtKind.VALIDATORS: GroupLimit(count=1_024, size=32 * _MIB),
    DhtKind.CHECKPOINT: GroupLimit(count=1, size=_MIB),
    DhtKind.EVIDENCE: GroupLimit(count=1_024, size=2 * _MIB),
    DhtKind.NODE: GroupLimit(count=1_024, size=8 * _MIB),
    DhtKind.BLOB: GroupLimit(count=1_024, size=32 * _MIB),
    DhtKind.BUNDLE: GroupLimit(count=256, size=32 * _MIB),
}
"""Records and bytes by kind; a kind that is not here is not kept."""
