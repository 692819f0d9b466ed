"""The marker beside the keystore: where this key's signing history lies.

A state folder that is not there (a relative path that was meant from elsewhere, a disk that is not
mounted) looks like that of a new node, and a validator that began anew in it would leave its
journal behind unnoticed. The marker lies where the key lies: it is the key that must not sign
twice.

Rules:
1. It is written, durably, when a journal is begun or a history imported, and again at each start
   with a usable journal: keys that signed before there were markers get one, and a folder that was
   moved whole is known at its new place by its journal's id.
2. It counts for one consensus key in one network. A new key beside it starts clean.
3. While it counts, a node begins no database in a folder without that journal, and no second
   journal is begun for the key. An operator whose folder is lost says so with `validator-node db
   begin`.
4. A keystore's folder that cannot be written (a mounted secret) gets no marker; that is logged.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
import structlog

from storage.errors import JournalError
from storage.journal_reader import read_marker
from validator_node.config import NodeConfig
from validator_node.errors import ConfigError
from validator_node.journal_bridge import journal_paths

log = structlog.get_logger(__name__)


class Beginning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the marker says, in hex where it is bytes."""

    consensus_key: str
    network_id: str
    journal_id: str
    state_dir: str
    """Absolute."""


def marker_path(keystore: Path) -> Path:
    """Return where the marker of a keystore lies."""
    return keystore.with_name(keystore.name + ".begun")


def read_beginning(keystore: Path) -> Beginning | None:
    """Return what the marker says, None if there is none. Raises `ConfigError` for damage."""
    path = marker_path(keystore)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Beginning)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ConfigError(
            f"{path}: unreadable ({error}): it says where the signing history of this key lies. "
            f"Make sure that state_dir is that folder, then remove the file; the node writes it "
            f"anew"
        ) from error


def note_beginning(config: NodeConfig, network_id: bytes, consensus_key: bytes) -> None:
    """Write down that the key's journal lies in this state folder (rule 1)."""
    journal_id = _journal_id(config.state_dir)
    if journal_id is None:
        return
    wanted = Beginning(
        consensus_key=consensus_key.hex(),
        network_id=network_id.hex(),
        journal_id=journal_id,
        state_dir=str(config.state_dir.absolute()),
    )
    path = marker_path(config.keystore)
    if path.exists() and read_beginning(config.keystore) == wanted:
        return
    try:
        _write(path, msgspec.json.format(msgspec.json.encode(wanted)) + b"\n")
    except OSError as error:
        log.warning(
            "the marker of the signing history is not written: a wrong state_dir will not be seen",
            path=str(path),
            reason=str(error),
        )


def note_moved(config: NodeConfig, network_id: bytes, imported: Iterable[bytes]) -> None:
    """Let the marker name this state folder, if it is of a key whose history was imported here."""
    known = read_beginning(config.keystore)
    if known is not None and known.consensus_key in {key.hex() for key in imported}:
        note_beginning(config, network_id, bytes.fromhex(known.consensus_key))


def check_may_begin(config: NodeConfig, network_id: bytes, consensus_key: bytes) -> None:
    """Raise `ConfigError` if a database begun here would leave the key's history (rule 3)."""
    known = _elsewhere(config, network_id, consensus_key)
    if known is not None:
        raise ConfigError(
            f"{config.state_dir.absolute()} holds no database, and the signing history of this key "
            f"lies in {known.state_dir}. If that folder is there, correct state_dir or move the "
            f"folder here; if it was lost, restore it; if it cannot be restored, run "
            f"`validator-node db begin`: the node then only observes, with a new database"
        )


def check_may_promise(config: NodeConfig, network_id: bytes, consensus_key: bytes) -> None:
    """Raise `ConfigError` if the key has a signing history elsewhere (rule 3)."""
    known = _elsewhere(config, network_id, consensus_key)
    if known is not None:
        raise ConfigError(
            f"the signing history of this key lies in {known.state_dir}: it has signed before. "
            f"Correct state_dir, or export the history there and import it here with "
            f"`validator-node signing-history`"
        )


def _elsewhere(config: NodeConfig, network_id: bytes, consensus_key: bytes) -> Beginning | None:
    """Return what the marker says if it counts and the journal it names is not here."""
    known = read_beginning(config.keystore)
    if known is None:
        return None
    if (known.consensus_key, known.network_id) != (consensus_key.hex(), network_id.hex()):
        return None
    return None if _journal_id(config.state_dir) == known.journal_id else known


def _journal_id(state_dir: Path) -> str | None:
    """Return the id of the journal in a state folder, None if it cannot be known."""
    try:
        marker = read_marker(journal_paths(state_dir)[1])
    except (JournalError, OSError):
        return None
    return None if marker is None else marker.journal_id.hex()


def _write(path: Path, data: bytes) -> None:
    """Replace the file whole, and have it on the disk."""
    aside = path.with_name(path.name + ".new")
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:  # noqa: PTH123
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
