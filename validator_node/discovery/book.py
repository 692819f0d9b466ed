"""The address book: the newest signed node record of each hotkey that belongs to the subnet. Pure.

Rules:
1. A record is kept if its hotkey is a neuron of the subnet or a member of the validator set, if it
   is newer than the one we have, and if the hotkey signed it for this network. The signature comes
   last, for it is the dear check. A hotkey may renew its record four times at once, then once in
   `RENEWAL_S`.
2. A record says where its hotkey's node is, and nothing else proves it: whoever signs a record may
   name somebody else's peer id. So a record never identifies a peer; it only tells where to look.
   For one peer id, what that very peer told us (`vouched`) comes before what others say.
3. A record lives for `EXPIRY_S` after it was last *seen*: when a newer one came, or while its peer
   is connected. Being told the same record again is no sign of life.
4. At most `MAX_RECORDS` are kept. When the book is full the one seen longest ago goes, members of
   the validator set never.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Final

from msgspec import Meta

from protocol.codec import U64, Record, decode, encode
from protocol.errors import ProtocolError
from protocol.records.validators import MAX_VALIDATORS, SignedNodeRecord
from validator_node.network.addresses import is_peer_id
from validator_node.rate import Budget

MAX_RECORDS: Final = 512
MAX_RECORD_BYTES: Final = 8_192
EXPIRY_S: Final = 72 * 3600.0
RENEWAL_S: Final = 20.0
SAVED_LIMIT_BYTES: Final = 2 * MAX_RECORDS * MAX_RECORD_BYTES

assert MAX_VALIDATORS < MAX_RECORDS


class RecordRefusedError(ProtocolError):
    """A node record was not taken; `reason` says why."""

    def __init__(self, reason: str, message: str, *, hostile: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.hostile = hostile
        """Whether no honest peer passes such a record on."""


class StoredRecord(Record):
    """A record as it is saved."""

    signed: SignedNodeRecord
    seen_s: U64
    vouched: bool


class StoredBook(Record):
    """The whole book as it is saved."""

    own_sequence: U64
    """Sequence of the newest record this node has signed."""
    records: Annotated[tuple[StoredRecord, ...], Meta(max_length=MAX_RECORDS)]


@dataclass(frozen=True, slots=True)
class Entry:
    """A record in the book."""

    signed: SignedNodeRecord
    seen_s: float
    vouched: bool

    @property
    def hotkey(self) -> bytes:
        """Whose record it is."""
        return self.signed.record.hotkey

    @property
    def peer_id(self) -> str:
        """The peer it names."""
        return self.signed.record.peer_id


class AddressBook:
    """The records of the other nodes, by hotkey."""

    def __init__(
        self,
        network_id: bytes,
        own_hotkey: bytes,
        *,
        is_neuron: Callable[[bytes], bool],
        now: Callable[[], float],
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin empty.

        Args:
            network_id: whose records these are.
            own_hotkey: ours; its record is not kept.
            is_neuron: whether a hotkey is a neuron of the subnet.
            now: seconds since 1970, which mean something after a restart too.
            ticks: monotonic seconds, for the budgets.
        """
        self._network_id = network_id
        self._own_hotkey = own_hotkey
        self._is_neuron = is_neuron
        self._now = now
        self._members: frozenset[bytes] = frozenset()
        self._entries: dict[bytes, Entry] = {}
        self._renewals = Budget(1.0, lambda: ticks() / RENEWAL_S)
        self.own_sequence = 0

    def __len__(self) -> int:
        return len(self._entries)

    def next_sequence(self) -> int:
        """Return the sequence of our next record: the time in ms, but never one used before.

        A clock that was set back must not make our new records look older than our last one.
        """
        self.own_sequence = max(int(self._now() * 1000), self.own_sequence + 1)
        return self.own_sequence

    def entries(self) -> list[Entry]:
        """Return every record."""
        return list(self._entries.values())

    def members(self) -> list[Entry]:
        """Return the records of the validator set's members."""
        return [e for e in self._entries.values() if e.hotkey in self._members]

    def others(self) -> list[Entry]:
        """Return the records of everybody else."""
        return [e for e in self._entries.values() if e.hotkey not in self._members]

    def get(self, hotkey: bytes) -> Entry | None:
        """Return a hotkey's record, or None."""
        return self._entries.get(hotkey)

    def read(self, data: bytes) -> SignedNodeRecord:
        """Decode a record; `RecordRefusedError` if it is malformed."""
        try:
            return decode(SignedNodeRecord, data, limit_bytes=MAX_RECORD_BYTES)
        except ProtocolError as error:
            raise RecordRefusedError(error.reason, str(error), hostile=True) from error

    def take(self, signed: SignedNodeRecord, source: str) -> Entry:
        """Keep a record, told by the peer `source`.

        Raises:
            RecordRefusedError: with the reason `own`, `unknown_hotkey`, `malformed`, `not_newer`,
                `bad_signature` or `too_often`; nothing was changed.
        """
        known = self._check(signed)
        now = self._now()
        vouched = signed.record.peer_id == source or (
            known is not None and known.vouched and known.peer_id == signed.record.peer_id
        )
        entry = Entry(signed, now, vouched)
        self._entries[entry.hotkey] = entry
        if len(self._entries) > MAX_RECORDS:
            stalest = min(self.others(), key=lambda other: other.seen_s)
            del self._entries[stalest.hotkey]
        return entry

    def _check(self, signed: SignedNodeRecord) -> Entry | None:
        """Return the record that this one replaces, if any (rule 1)."""
        record = signed.record
        if record.hotkey == self._own_hotkey:
            self._note_own(signed)
            raise RecordRefusedError("own", "a record of our own hotkey", hostile=False)
        if not self._belongs(record.hotkey):
            message = f"hotkey {record.hotkey.hex()[:16]} is neither neuron nor validator"
            raise RecordRefusedError("unknown_hotkey", message, hostile=False)
        if not is_peer_id(record.peer_id) or len(encode(signed)) > MAX_RECORD_BYTES:
            message = f"no peer id in base58, or more than {MAX_RECORD_BYTES} bytes"
            raise RecordRefusedError("malformed", message, hostile=True)
        known = self._entries.get(record.hotkey)
        if known is not None and known.signed.record.sequence >= record.sequence:
            message = f"sequence {record.sequence}, known is {known.signed.record.sequence}"
            raise RecordRefusedError("not_newer", message, hostile=False)
        self._verify(signed)
        if not self._renewals.spend(record.hotkey):
            message = f"hotkey {record.hotkey.hex()[:16]} renews its record too often"
            raise RecordRefusedError("too_often", message, hostile=False)
        return known

    def _note_own(self, signed: SignedNodeRecord) -> None:
        """Go beyond what we signed before our folder was lost or our clock set back."""
        if signed.record.sequence > self.own_sequence:
            self._verify(signed)
            self.own_sequence = signed.record.sequence

    def _verify(self, signed: SignedNodeRecord) -> None:
        try:
            signed.verify(self._network_id)
        except ProtocolError as error:
            raise RecordRefusedError(error.reason, str(error), hostile=True) from error

    def _belongs(self, hotkey: bytes) -> bool:
        return hotkey in self._members or self._is_neuron(hotkey)

    def begin_epoch(self, members: Iterable[bytes]) -> None:
        """Take the hotkeys of a new validator set; forget who has left set and subnet."""
        self._members = frozenset(members)
        self._entries = {k: e for k, e in self._entries.items() if self._belongs(k)}

    def touch(self, peer_ids: frozenset[str]) -> None:
        """Note that these peers are connected now (rule 3)."""
        now = self._now()
        for hotkey, entry in self._entries.items():
            if entry.peer_id in peer_ids:
                self._entries[hotkey] = replace(entry, seen_s=now)

    def expire(self) -> int:
        """Drop what was not seen for `EXPIRY_S`; return how many."""
        limit = self._now() - EXPIRY_S
        stale = [hotkey for hotkey, entry in self._entries.items() if entry.seen_s < limit]
        for hotkey in stale:
            del self._entries[hotkey]
        return len(stale)

    def dump(self) -> bytes:
        """Return the book as bytes for `load`."""
        records = tuple(
            StoredRecord(signed=e.signed, seen_s=max(0, int(e.seen_s)), vouched=e.vouched)
            for e in self._entries.values()
        )
        return encode(StoredBook(own_sequence=self.own_sequence, records=records))

    def load(self, data: bytes) -> int:
        """Take what `dump` gave, as far as it is still good; return how many records were not.

        Call it after `begin_epoch`. Every record is checked again: what lies on a disk may have
        been altered, and hotkeys leave the subnet.

        Raises:
            ProtocolError: these bytes are no book.
        """
        stored = decode(StoredBook, data, limit_bytes=SAVED_LIMIT_BYTES)
        self.own_sequence = max(self.own_sequence, stored.own_sequence)
        refused = 0
        for item in stored.records:
            try:
                self._check(item.signed)
            except RecordRefusedError:
                refused += 1
                continue
            seen_s = min(float(item.seen_s), self._now())
            self._entries[item.signed.record.hotkey] = Entry(item.signed, seen_s, item.vouched)
        return refused + self.expire()
