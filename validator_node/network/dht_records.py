"""What this node answers with: records it derives and records it keeps, all of them judged.

Rules: nothing is returned or kept that the judge refuses; of what is derived and what is kept, the
better one is the answer; what can be derived is not kept as well. A peer is charged for what no
honest one sends. A failure of the database is remembered for whoever can end the node: the library
swallows the errors of the store that it calls.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from storage.errors import DatabaseError
from storage.record_store import RecordStore, RecordStoreError
from validator_node.network.limits import Gate
from validator_node.records.errors import RecordError

HONEST: Final = frozenset({"unknown_epoch", "unknown_hotkey", "unknown_kind", "reserved"})
"""Reasons that come of knowing less or being of another version, and cost a peer nothing."""


class Judge(Protocol):
    """Who says what is a record; `records.RecordBook` is one."""

    def check(self, key: str, value: bytes) -> None:
        """Raise `RecordError` unless `value` may stand under `key`."""

    def select(self, key: str, values: Sequence[bytes]) -> int:
        """Return the index of the best of `values`, the last on ties."""
        ...

    def newest_wins(self, key: str) -> bool:
        """Return whether a valid value may be older than another."""
        ...


@dataclass(frozen=True, kw_only=True)
class DhtConfig:
    """What a node brings to the DHT.

    Attributes:
        judge: the rules of the records.
        kept: where put records are kept.
        derived: key -> what the node's own storage holds under it, or None.
        anchors: peer ids known from elsewhere, such as the validators': see `dht_lookup`.
    """

    judge: Judge
    kept: RecordStore
    derived: Callable[[str], bytes | None] = lambda _: None
    anchors: Callable[[], Collection[str]] = tuple


class HeldRecords:
    """Both sources behind one judge."""

    def __init__(self, config: DhtConfig, gate: Gate) -> None:
        self.judge = config.judge
        self.counters = gate.counters
        self._kept = config.kept
        self._derived = config.derived
        self._scores = gate.scores
        self._listeners: list[Callable[[str, bytes], None]] = []
        self._failed = trio.Event()
        self._failure: DatabaseError | None = None

    def on_put(self, listener: Callable[[str, bytes], None]) -> None:
        """Call `listener(key, value)` for each record of a peer that was accepted."""
        self._listeners.append(listener)

    def best(self, key: str) -> bytes | None:
        """Return the best acceptable record held under `key`, or None."""
        try:
            derived, kept = self._derived(key), self._kept.get(key)
            if kept is not None and not self._is_good(key, kept):
                self._kept.delete(key)
                kept = None
        except DatabaseError as error:
            self._fail(error)
            raise
        if derived is not None and not self._is_good(key, derived):
            derived = None
        held = [value for value in (kept, derived) if value is not None]
        return held[self.judge.select(key, held)] if held else None

    def keep(self, key: str, value: bytes, *, own: bool) -> None:
        """Keep a judged record; one of others that can be derived is not kept as well.

        A record that no bound allows is counted and not kept, unless it is our own.

        Raises:
            RecordStoreError: our own record is beyond every bound.
        """
        try:
            if own or self._derived(key) != value:
                self._kept.put(key, value, own=own)
        except RecordStoreError:
            if own:
                raise
            self.counters.count("dropped", "record_unbounded")
        except DatabaseError as error:
            self._fail(error)
            raise

    def keep_put(self, key: str, value: bytes) -> None:
        """Keep a judged record that a peer put, and tell the listeners."""
        self.keep(key, value, own=False)
        for listener in self._listeners:
            listener(key, value)

    def check_from(self, peer_id: str | None, key: str, value: bytes) -> None:
        """Judge what a peer sent, count it and charge the peer. Raises `RecordError`."""
        try:
            self.judge.check(key, value)
        except RecordError as error:
            self.counters.count("refused", f"record_{error.reason}")
            if peer_id is not None and error.reason not in HONEST:
                self._scores.charge(peer_id, f"record_{error.reason}")
            raise

    def refusal(self, peer_id: str, key: str, value: bytes) -> str | None:
        """Return why a peer's answer is refused, or None if it is good."""
        try:
            self.check_from(peer_id, key, value)
        except RecordError as error:
            return error.reason
        return None

    async def wait_failed(self) -> DatabaseError:
        """Wait until the database failed, and return how."""
        await self._failed.wait()
        assert self._failure is not None
        return self._failure

    def _is_good(self, key: str, value: bytes) -> bool:
        try:
            self.judge.check(key, value)
        except RecordError as error:
            self.counters.count("refused", f"held_{error.reason}")
            return False
        return True

    def _fail(self, error: DatabaseError) -> None:
        self._failure = self._failure or error
        self._failed.set()
