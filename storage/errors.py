"""Errors of the storage: what could not be kept or read back, where, and what to do about it.

Every error carries `reason`, a short stable word that is also a metrics label.
"""

from __future__ import annotations

from pathlib import Path


class StorageError(Exception):
    """Something could not be stored or read back."""

    reason = "storage"


class DatabaseError(StorageError):
    """LevelDB refused an operation; the message carries its words."""

    reason = "database"


class DatabaseLockedError(DatabaseError):
    """The database is open in another process."""

    reason = "database_locked"


class DatabaseMissingError(DatabaseError):
    """No database is there, and none was to be created."""

    reason = "database_missing"


class DatabaseDamagedError(DatabaseError):
    """LevelDB found a checksum or structure that does not hold."""

    reason = "database_damaged"


class DatabaseDiskFullError(DatabaseError):
    """The disk has no room for what is to be written."""

    reason = "database_disk_full"


class DatabaseForbiddenError(DatabaseError):
    """This process may not read or write the database's files."""

    reason = "database_forbidden"


class DatabaseTooManyFilesError(DatabaseError):
    """The process has as many files open as it may."""

    reason = "database_too_many_files"


class DatabaseClosedError(DatabaseError):
    """The database was used after `close`."""

    reason = "database_closed"


class SchemaError(DatabaseError):
    """The database was written by a different version of the node, or by something else."""

    reason = "schema"


class BatchError(StorageError):
    """A write batch was used out of turn: twice, or while another one is still open."""

    reason = "batch"


class JournalError(StorageError):
    """The write-ahead journal could not do what was asked."""

    reason = "journal"


class JournalNotCreatedError(JournalError):
    """There has never been a journal here: a new node may call `Journal.create`."""

    reason = "journal_not_created"


class JournalMissingError(JournalError):
    """A journal was created here and its files are gone: this node forgot what it signed."""

    reason = "journal_missing"


class JournalExistsError(JournalError):
    """A journal is there already, and must not be created over."""

    reason = "journal_exists"


class JournalLockedError(JournalError):
    """The journal is open in another process."""

    reason = "journal_locked"


class JournalFailedError(JournalError):
    """An earlier write or fsync failed, so nothing after it can be trusted to be on disk."""

    reason = "journal_failed"


class JournalDamagedError(JournalError):
    """The journal holds something other than whole groups and at most one torn last one.

    `path` and `offset` (bytes from the file's start) name the place.
    """

    reason = "journal_damaged"

    def __init__(self, path: Path, offset: int, detail: str) -> None:
        super().__init__(f"journal {path}, byte {offset}: {detail}")
        self.path = path
        self.offset = offset
        self.detail = detail


class VowError(StorageError):
    """The signing guard refuses a signature."""

    reason = "vow"


class VowConflictError(VowError):
    """Other bytes were already promised for the same key."""

    reason = "vow_conflict"


class VowBelowFloorError(VowError):
    """The key lies below a floor: its view was left, or its sequence is done with."""

    reason = "vow_below_floor"


class StateError(StorageError):
    """A state view was used against its rules, or a key or value is out of bounds."""

    reason = "state"


class StateDamagedError(StateError):
    """A stored node of the state tree does not hash to what its parent says."""

    reason = "state_damaged"


class LedgerError(StorageError):
    """A batch does not continue the ledger, or a stored one cannot be read back."""

    reason = "ledger"


class BlobError(StorageError):
    """A body could not be stored: it has the wrong hash or too many bytes."""

    reason = "blob"


class BlobDamagedError(BlobError):
    """A stored body no longer has the hash it is stored under."""

    reason = "blob_damaged"


class SnapshotError(StorageError):
    """A snapshot could not be written, or is not what its manifest and root say."""

    reason = "snapshot"


class SnapshotCancelledError(SnapshotError):
    """Writing a snapshot was given up because the caller asked for it."""

    reason = "snapshot_cancelled"


class SealError(StorageError):
    """Sealed data cannot be opened: another key, another place, or damage."""

    reason = "seal"
