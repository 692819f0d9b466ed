"""The columns of the database: the first byte of every key, and what follows it.

The table below is the whole list: a new use is a new row, and a row is never given a second
meaning. A change of what is stored under which key raises `storage.migrations.SCHEMA_VERSION`.
"""

from __future__ import annotations

from enum import Enum


class Column(bytes, Enum):
    """The first byte of every key, and what follows it."""

    META = b"M"
    """name -> facts about this database: `schema`, `ledger-tip`, `network-id`, `stable` (the newest
    stable checkpoint), `edge/` epoch, 8 bytes -> the stable checkpoint at that epoch's edge, and
    `evidence/` digest -> proof of contradicting votes, `diverged` -> where the state went wrong,
    `anchor` -> the commit certificate of the snapshot's slot that this database begins at,
    `ledger-first` (the first slot still held), `migration` (how far an unfinished one has come)."""
    STATE_VALUES = b"V"
    """state key -> value (`storage.state`)."""
    STATE_NODES = b"N"
    """path in the state tree -> node (`storage.state`)."""
    LEDGER = b"L"
    """sequence, 8 bytes, big-endian -> batch and certificate (`storage.ledger`)."""
    LEDGER_DIGESTS = b"D"
    """digest of a batch -> its sequence, 8 bytes, big-endian (`storage.ledger`)."""
    ROOTS = b"T"
    """sequence, 8 bytes, big-endian -> the state root after it (the node's store)."""
    PROOFS = b"P"
    """submission id -> the proof of its result, taken when it settled (the node's store)."""
    BLOBS = b"B"
    """sha256 of a body -> the body (`storage.blobs`)."""
    RECORDS = b"R"
    """DHT key -> signed record (`storage.record_store`)."""
    AUDIT = b"A"
    """position in the audit log -> entry (`storage.audit_log`)."""
    AGES = b"G"
    """kind and slot and key, and kind and key: what may be dropped when (`storage.retention`)."""
    SEALED = b"S"
    """name -> what only the holder of the node's storage key can read (`storage.sealing`)."""
    SCRATCH = b"X"
    """Rows of an operation that is under way, such as an installation; empty otherwise."""
    LOCAL = b"O"
    """name -> what this node remembers for itself and could do without, such as known peers."""


class Meta(bytes, Enum):
    """The names in `Column.META`, each described there; `EDGE` and `EVIDENCE` are prefixes."""

    SCHEMA = b"schema"
    MIGRATION = b"migration"
    TIP = b"ledger-tip"
    FIRST = b"ledger-first"
    NETWORK = b"network-id"
    STABLE = b"stable"
    DIVERGED = b"diverged"
    ANCHOR = b"anchor"
    EDGE = b"edge/"
    EVIDENCE = b"evidence/"
