"""Actions: what a batch may contain. A tagged union; an unknown tag makes the whole batch invalid.

| tag | action | origin | sequence |
|---|---|---|---|
| `statement` | admissions, verdicts and observations of one validator | signer | counter |
| `registry` | an owner's signed change of one challenge | owner | sequence |
| `metagraph` | the chain at the block that a quorum observed | the chain | epoch |

Reserved tags, invalid until the protocol version that defines them: `reveal`, `job`. The vector of
an epoch needs no action: every node computes it from the state when the epoch closes (see
docs/decisions/0002-epoch-weights-are-computed.md).
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from protocol.codec import PublicKey, Record, Signature, digest_of
from protocol.envelope import RecordKind, record_payload
from protocol.identity import verify_hotkey
from protocol.records.challenge import Challenge
from protocol.records.metagraph import EpochMetagraph
from protocol.records.statement import Statement

MAX_CHANGE_BYTES = 32_768
"""Longest encoded `RegistryChange`; the limits of its fields keep every one below it."""


class RegistryContent(Record):
    """What the owner signs: the next state of one challenge."""

    sequence: Annotated[int, Meta(ge=1, le=0x7FFF_FFFF_FFFF_FFFF)]
    """One more than the last committed change's."""
    challenge: Challenge
    """The version that becomes a candidate. Emission 0 retires the challenge, at once."""


class RegistryChange(Record, tag="registry"):
    """An owner-signed change of the catalogue; it has effect only once committed."""

    content: RegistryContent
    owner: PublicKey
    signature: Signature

    def verify(self, network_id: bytes) -> None:
        """Raise `SignatureError` unless `owner` signed this change for this network."""
        payload = record_payload(RecordKind.REGISTRY_CHANGE, network_id, digest_of(self.content))
        verify_hotkey(self.owner, payload, self.signature)


def registry_topic(network_id: bytes) -> str:
    """Return the gossip topic of the owner's changes; a message is one `RegistryChange`."""
    return f"/validator/1/{network_id.hex()[:16]}/registry"


Action = Statement | RegistryChange | EpochMetagraph
"""Everything a batch can order."""
