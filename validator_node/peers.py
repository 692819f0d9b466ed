"""Which peer is which validator: node records, exchanged as the first frame of each link.

A link is admitted only if the record is signed by a hotkey of the validator set, names that
validator's consensus key, and names the peer id that Noise authenticated on this connection. Only
that makes a peer a validator's: a record that reaches us otherwise (see `discovery`) may name
anybody's peer id. A link outlives the epoch, and no second hello comes on it: of whoever leaves the
set the record is kept, in case a later set takes that key back.
"""

from __future__ import annotations

from consensus.validators import Voters
from protocol.codec import decode
from protocol.errors import ProtocolError
from protocol.records.validators import MAX_VALIDATORS, SignedNodeRecord

MAX_RECORD_BYTES = 8192
MAX_LEFT = MAX_VALIDATORS
"""Records kept of validators that have left; the ones that left first go first."""


class Peers:
    """The two-way map between peer ids and validator indices."""

    def __init__(self, voters: Voters, network_id: bytes) -> None:
        self._voters = voters
        self._network_id = network_id
        self._records: dict[int, SignedNodeRecord] = {}
        self._index_of: dict[str, int] = {}
        self._left: dict[bytes, SignedNodeRecord] = {}
        """By consensus key, those who introduced themselves and are in the set no more."""

    def introduce(self, peer_id: str, data: bytes) -> int:
        """Take a peer's record and return its index; `ProtocolError` says why it is refused."""
        signed = decode(SignedNodeRecord, data, limit_bytes=MAX_RECORD_BYTES)
        record = signed.record
        if record.peer_id != peer_id:
            raise ProtocolError(f"the record names peer {record.peer_id}, the link is {peer_id}")
        index = self._voters.index_of_key(record.consensus_key)
        if index is None or self._voters.members[index].hotkey != record.hotkey:
            raise ProtocolError("the record's keys are not in the validator set")
        signed.verify(self._network_id)
        known = self._records.get(index)
        if known is not None and known.record.sequence > record.sequence:
            # A clock that was set back makes older records; its peer proves itself all the same.
            if known.record.peer_id == peer_id:
                return index
            raise ProtocolError(f"an older record of validator {index}")
        if known is not None:
            self._index_of.pop(known.record.peer_id, None)
        self._records[index] = signed
        self._index_of[peer_id] = index
        return index

    def begin_epoch(self, voters: Voters) -> None:
        """Take the indices of a new epoch's set, also for who left and comes back."""
        known = {signed.record.consensus_key: signed for signed in self._records.values()}
        known = {**self._left, **known}
        self._voters = voters
        self._records, self._index_of, self._left = {}, {}, {}
        for key, signed in known.items():
            index = voters.index_of_key(key)
            if index is not None and voters.members[index].hotkey == signed.record.hotkey:
                self._records[index] = signed
                self._index_of[signed.record.peer_id] = index
            else:
                self._left[key] = signed
        for key in list(self._left)[:-MAX_LEFT]:
            del self._left[key]

    def index(self, peer_id: str) -> int | None:
        """Return the validator behind a peer id, or None."""
        return self._index_of.get(peer_id)

    def peer_id(self, index: int) -> str | None:
        """Return the peer id of a validator, or None before it introduced itself."""
        known = self._records.get(index)
        return known.record.peer_id if known else None
