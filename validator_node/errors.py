"""Errors an operator may see. Each says what was wrong, where, and what to do."""

from __future__ import annotations

from pathlib import Path


class NodeError(Exception):
    """The node cannot go on; the message is meant for its operator."""


class ConfigError(NodeError):
    """A configuration, key or genesis file is missing or wrong."""


class AbsentError(NodeError):
    """What a command was asked to show is not there, or not yet."""


class ToolSpokeError(NodeError):
    """A compiler refused a source; the message is its own, of several lines."""


class OutputError(NodeError):
    """What a command found could not be written down."""


class GenesisMismatchError(NodeError):
    """The data folder belongs to another network."""

    def __init__(self, path: Path, found: bytes, wanted: bytes) -> None:
        super().__init__(
            f"{path} holds data of network {found.hex()[:16]}, the genesis says "
            f"{wanted.hex()[:16]}: use another state folder or the matching genesis"
        )


class NeverFilledError(NodeError):
    """A database that names no network."""

    def __init__(self, path: Path, *, empty: bool) -> None:
        super().__init__(
            f"database {path}: holds no network; its node never got so far. Delete the folder, the "
            f"node makes another one"
            if empty
            else f"database {path}: holds rows and does not say of which network: it is damaged; "
            f"keep the journal, and run `validator-node db repair`"
        )
        self.empty = empty
        """Whether nothing at all is in it, rather than rows of an unknown network."""


class ReplayError(NodeError):
    """Executing a decided batch did not lead to the state that a quorum certified."""


class SyncError(NodeError):
    """A snapshot could not be loaded or installed; the next offer is tried."""


class SnapshotRefusedError(SyncError):
    """A snapshot is not what its certificate names: whoever offers it lies."""


class ResyncNeeded(Exception):  # noqa: N818 - a turn of events, not an error
    """This run of the node ends, and the next one begins from what it has made."""

    def __init__(self, seq: int, what: str = "the snapshot") -> None:
        super().__init__(f"restart from {what} at slot {seq}")
        self.seq = seq


class BodyMissingError(NodeError):
    """No validator could be asked for a submission's body; it is tried again."""

    reason = "body_missing"

    def __init__(self, body_hash: bytes) -> None:
        super().__init__(f"no connected validator has body {body_hash.hex()[:16]}")


class TestnetError(NodeError):
    """The local test network could not start or did not do its job."""
