"""Who may vote, and how nodes introduce themselves.

The validator set lists (hotkey, consensus key, voting weight) in a fixed order; a validator's place
in it is its index, and the set's hash is part of every vote's signed bytes. A node record binds a
hotkey to its consensus key, its libp2p key and its addresses; the newest sequence number wins.
Nodes ask each other for a sample of the records they hold.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from protocol.codec import U64, PublicKey, Record, Signature, digest_of
from protocol.envelope import RecordKind, record_payload
from protocol.identity import verify_hotkey
from protocol.records.consensus_key import SignedKey

MAX_VALIDATORS = 256
MAX_EXCHANGED = 32
"""Node records in one reply."""


class Validator(Record):
    """One member of a validator set."""

    hotkey: PublicKey
    consensus_key: PublicKey
    weight: Annotated[int, Meta(ge=1, le=0x7FFF_FFFF_FFFF_FFFF)]
    """Voting weight: the stake it votes with."""


class ValidatorSet(Record):
    """The voters of one epoch, in index order."""

    epoch: U64
    members: Annotated[tuple[Validator, ...], Meta(min_length=1, max_length=MAX_VALIDATORS)]

    def for_epoch(self, epoch: int) -> ValidatorSet:
        """Return the same members as the set of another epoch."""
        return ValidatorSet(epoch=epoch, members=self.members)

    def set_hash(self) -> bytes:
        """Return the digest that names this set in signatures."""
        return digest_of(self)


class NodeRecord(Record):
    """A node's self-description."""

    hotkey: PublicKey
    consensus_key: PublicKey
    peer_id: Annotated[str, Meta(min_length=1, max_length=128)]
    addresses: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...], Meta(max_length=16)
    ]
    sequence: U64
    key: SignedKey | None = None
    """The binding of the consensus key, as long as the replicated state does not have it."""


class SignedNodeRecord(Record):
    """A node record with its hotkey's signature."""

    record: NodeRecord
    signature: Signature

    def verify(self, network_id: bytes) -> None:
        """Raise `SignatureError` unless the hotkey signed this record for this network."""
        payload = record_payload(RecordKind.NODE_RECORD, network_id, digest_of(self.record))
        verify_hotkey(self.record.hotkey, payload, self.signature)


class PeerExchangeRequest(Record):
    """Asks for node records."""

    limit: Annotated[int, Meta(ge=1, le=MAX_EXCHANGED)]
    """How many the asker takes at most."""


class PeerExchangeReply(Record):
    """The replier's own record, and a sample of those it holds; none if it is asked too often."""

    records: Annotated[tuple[SignedNodeRecord, ...], Meta(max_length=MAX_EXCHANGED)]
