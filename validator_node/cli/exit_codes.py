"""How a command ends: the exit codes, and which error leads to which.

| code | means | supervisor |
|---|---|---|
| 0 | done | |
| 1 | the answer is no: refused, damage found, not valid, a vector differs, a trial fell | look |
| 2 | the command line is wrong | mend it |
| 3 | `owner publish`: the network decided against the change | look |
| 4 | `owner publish`: not decided in time | try again |
| 65 | data is damaged: database, journal, snapshot, state | mend it before a restart |
| 69 | the network or the chain cannot be reached | restart |
| 70 | a fault of this program; the trace back is shown | report it |
| 74 | something cannot be written or read: a full disk, a closed output | mend it |
| 75 | another process holds the database or the journal | try again later |
| 78 | a setting, a key or a file of the operator's is missing or wrong | mend it before a restart |
| 130 | interrupted | |
| 141 | whoever read the output went away | |

From 65 to 78 they are those of BSD's sysexits.h, which supervisors know: in a systemd unit,
`RestartPreventExitStatus=65 78`. A signal that is not an orderly stop gives 128 and its number.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """A process's exit code."""

    DONE = 0
    NO = 1
    USAGE = 2
    REFUSED = 3
    UNDECIDED = 4
    DAMAGED = 65
    UNAVAILABLE = 69
    FAULT = 70
    IO = 74
    BUSY = 75
    CONFIG = 78
    INTERRUPTED = 130
    READER_GONE = 141


def exit_code_of(error: BaseException) -> ExitCode | None:
    """Return the code for an error whose text is meant for people; None for a fault of ours.

    The modules of the errors are imported only now: most commands end without one.
    """
    from validator_node.files import OPERATORS_ERRNOS

    for kinds, code in _table():
        if isinstance(error, kinds):
            return code
    if isinstance(error, OSError) and error.errno in OPERATORS_ERRNOS:
        return ExitCode.CONFIG if error.filename is not None else ExitCode.IO
    return None


def _table() -> tuple[tuple[tuple[type[BaseException], ...], ExitCode], ...]:
    """Return the errors and their codes; the first row that fits counts."""
    from chain.errors import ChainError
    from chain.watchdog import ChainLostError
    from storage import errors as stored
    from validator_node import errors as node
    from validator_node.network import errors as network

    return (
        ((KeyboardInterrupt,), ExitCode.INTERRUPTED),
        ((node.ConfigError, node.GenesisMismatchError), ExitCode.CONFIG),
        ((node.ReplayError, node.SyncError, node.NeverFilledError), ExitCode.DAMAGED),
        ((node.OutputError,), ExitCode.IO),
        ((node.NodeError,), ExitCode.NO),
        ((network.ListenError, network.InvalidAddressError), ExitCode.CONFIG),
        ((network.NetworkError, ChainError, ChainLostError), ExitCode.UNAVAILABLE),
        ((stored.DatabaseLockedError, stored.JournalLockedError), ExitCode.BUSY),
        (
            (
                *(stored.DatabaseMissingError, stored.SchemaError),
                *(stored.JournalNotCreatedError, stored.JournalExistsError),
            ),
            ExitCode.CONFIG,
        ),
        ((stored.VowError,), ExitCode.NO),
        (
            (
                *(stored.DatabaseDamagedError, stored.JournalMissingError, stored.SealError),
                *(stored.JournalDamagedError, stored.StateError, stored.LedgerError),
                *(stored.BlobError, stored.SnapshotError),
            ),
            ExitCode.DAMAGED,
        ),
        ((stored.StorageError,), ExitCode.IO),
    )
