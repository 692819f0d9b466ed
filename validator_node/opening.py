"""The doors to a node's database: to look at it, to change it, and the one that begins it.

Rules:
1. `look_at_store` is for commands that only show something: it changes no file and makes none,
   needs no right but to read, and keeps the node from starting meanwhile.
2. `open_store` is for commands that change a database that is there.
3. `open_own_store` is the running node's, and alone begins a database: in a state folder that has
   none, unless this key has a signing history that lies elsewhere (`validator_node.beginning`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protocol.records.genesis import Genesis
from storage.database import Database
from storage.database_folder import Contents, contents
from storage.errors import DatabaseMissingError
from storage.leveldb_errors import headless
from validator_node.beginning import check_may_begin, note_beginning
from validator_node.config import NodeConfig
from validator_node.errors import ConfigError, NeverFilledError, ReplayError
from validator_node.journal_bridge import AnyJournal, open_journal
from validator_node.store import Store, check_network

DATABASE_FOLDER = "db"


@contextmanager
def look_at_store(state_dir: Path, genesis: Genesis) -> Iterator[Store]:
    """Open the store of a stopped node to read it (rule 1).

    Raises the errors of `Database.look`, `GenesisMismatchError` and `NeverFilledError`.
    """
    with Database.look(database_path(state_dir)) as database:
        check_network(database, genesis)
        yield Store(database, genesis)


@contextmanager
def open_store(state_dir: Path, genesis: Genesis) -> Iterator[Store]:
    """Open the store of a stopped node to change it. Raises the errors of `Store.open`."""
    store = Store.open(database_path(state_dir), genesis)
    try:
        yield store
    finally:
        store.close()


def open_own_store(config: NodeConfig, genesis: Genesis, consensus_key: bytes) -> Store:
    """Open the node's database, begun if there is none and none can be lost.

    Raises `ReplayError` if its state is known to be wrong, `ConfigError` if it must not be begun,
    and the errors of `Store.open`.
    """
    path = database_path(config.state_dir)
    try:
        store = Store.open(path, genesis, config.retention)
    except (DatabaseMissingError, NeverFilledError) as error:
        if isinstance(error, NeverFilledError) and not error.empty:
            raise
        check_may_begin(config, genesis.network_id, consensus_key)
        store = Store.open(path, genesis, config.retention, create=True)
    if store.diverged_at is not None:
        seq = store.diverged_at
        store.close()
        raise ReplayError(
            f"{config.state_dir}: the state differed from a quorum's at slot {seq}; this node must "
            "not vote with it. Keep a copy of `db` for analysis, remove it, and start the node "
            "with the same journal: it takes the state from its peers"
        )
    return store


def open_own_journal(
    config: NodeConfig, genesis: Genesis, consensus_key: bytes
) -> tuple[AnyJournal, str]:
    """Open the node's journal as `open_journal` does, and note beside the key where it lies."""
    journal, why_observing = open_journal(config.state_dir, consensus_key)
    if not why_observing:
        note_beginning(config, genesis.network_id, consensus_key)
    return journal, why_observing


def check_state_folder(config: NodeConfig, genesis: Genesis, consensus_key: bytes) -> None:
    """Refuse a state folder in which the node must not begin, before anything is made in it.

    Raises `ConfigError` and `DatabaseError`.
    """
    path = database_path(config.state_dir)
    waits = any((config.state_dir / name).exists() for name in ("db.prepared", "db.replaced"))
    found = contents(path)
    if found is Contents.HEADLESS:
        raise headless(path)
    if found is Contents.VOID and not waits:
        check_may_begin(config, genesis.network_id, consensus_key)


def begin_store(config: NodeConfig, genesis: Genesis) -> None:
    """Begin an empty database because the operator says so. Raises `ConfigError` if one is there.

    And `DatabaseDamagedError` for the remains of one.
    """
    path = database_path(config.state_dir)
    found = contents(path)
    if found is Contents.WHOLE:
        raise ConfigError(f"database {path}: is there already, so that none is begun")
    if found is Contents.HEADLESS:
        raise headless(path)
    Store.open(path, genesis, config.retention, create=True).close()


def database_path(state_dir: Path) -> Path:
    """Return the folder of a node's database."""
    return state_dir / DATABASE_FOLDER
