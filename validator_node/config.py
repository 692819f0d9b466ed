"""The node's configuration: a TOML file, each value of which an environment variable can replace.

`VALIDATOR_LISTEN_PORT=4001` replaces `listen_port` (`environment`). Relative paths are relative to
the file's folder, wherever they come from: which files a node opens does not depend on where it is
started.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from consensus.feasibility import why_impossible
from protocol.codec import decode
from protocol.errors import DecodeError
from protocol.records.genesis import Genesis
from storage.retention import RetentionPolicy
from validator_node.environment import from_environment, variable_of
from validator_node.errors import ConfigError
from validator_node.files import read_file, read_text
from validator_node.network.addresses import check_external

MIN_RETAIN_SLOTS = 4096
GENESIS_LIMIT_BYTES = 4 * 1024 * 1024


PATHS = ("genesis", "keystore", "passphrase_file", "state_dir", "chain_dir")


class NodeConfig(BaseModel):
    """How one validator runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    genesis: Path
    """The network's genesis file."""
    keystore: Path
    passphrase_file: Path | None = None
    state_dir: Path
    """Database, journal and logs."""
    chain_endpoints: tuple[str, ...] = ()
    """WebSocket addresses of nodes of the chain, the best first; 1 to 16."""
    chain_genesis_hash: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """Hash of the chain's block 0 in hex; an endpoint of another chain is refused. Empty: the
    first endpoint that answers decides."""
    chain_stale_s: float = Field(default=120.0, gt=0)
    """Seconds without a new final block after which the next endpoint is tried."""
    chain_hopeless_s: float = Field(default=1800.0, gt=0)
    """Seconds without a new final block on any endpoint after which the process ends."""
    chain_dir: Path | None = None
    """In place of endpoints: folder of the embedded chain, shared by the nodes of one machine."""
    on_no_weights: Literal["abstain", "last_certified"] = "abstain"
    """What to submit for an epoch without weights: nothing, or the last certified vector again."""
    listen_host: str = "127.0.0.1"
    listen_port: int = Field(default=0, ge=0, le=65_535)
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=0, ge=0, le=65_535)
    bootstrap: tuple[str, ...] = ()
    """Multiaddrs with peer ids that are kept connected."""
    external_addrs: tuple[str, ...] = ()
    """Multiaddrs without peer id under which others reach a node behind NAT; they are announced
    instead of the listening ones."""
    peer_exchange: bool = True
    """Whether to ask others for nodes and dial them; if not, only the bootstrap list is dialled."""
    mdns: bool = False
    """Whether to look for nodes on the local network."""
    trusted_checkpoint: str = ""
    """The checkpoint at an epoch's edge from which validator sets are trusted, `EPOCH:DIGEST` as
    `validator-node checkpoint` prints it; empty for the genesis."""
    full_log: bool = False
    """Whether a node that is far behind reads the whole log rather than a snapshot, so that it
    holds, and can serve, every batch."""
    snapshot_every_slots: int = Field(default=1024, ge=1)
    """Slots between two snapshots of the state, which other nodes join from."""
    retain_slots: int = Field(default=100_000, ge=0)
    """Decided batches kept below the newest stable checkpoint; 0 for all. Joining nodes need the
    log above a snapshot: not less than 4,096."""
    retain_proof_epochs: int = Field(default=0, ge=0)
    """Epochs in which the proofs of results are kept; 0 for as long as the log. A proof that is
    gone is made anew when somebody asks for the receipt."""
    retain_body_epochs: int = Field(default=144, ge=0)
    """Epochs in which submissions' bodies are kept after they came; 0 for all."""
    clock_offset_ms: int = 0
    """Added to this machine's clock; for trials of what a wrong clock does."""
    workers: int = Field(default=2, ge=1, le=64)
    """Evaluation worker processes."""
    challenge_workers: int = Field(default=0, ge=0, le=64)
    """Workers that one challenge may occupy at a time; 0 for all of them."""
    evaluation_deadline_ms: int = Field(default=30_000, ge=100, le=3_600_000)
    submissions_per_second: float = Field(default=50.0, gt=0)
    """Intake budget of one hotkey."""
    max_pending: int = Field(default=4096, ge=1)
    """Submissions that may wait for admission here; more are refused as `busy`."""

    @field_validator("external_addrs")
    @classmethod
    def _check_external(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_external(value)
        return value

    @field_validator("retain_slots")
    @classmethod
    def _log_is_long_enough(cls, value: int) -> int:
        if 0 < value < MIN_RETAIN_SLOTS:
            raise ValueError(f"at least {MIN_RETAIN_SLOTS}, or 0 to keep every batch")
        return value

    @model_validator(mode="after")
    def _one_chain(self) -> Self:
        if (self.chain_dir is None) == (not self.chain_endpoints):
            raise ValueError("chain_endpoints or chain_dir: one of the two is needed, and only one")
        return self

    @model_validator(mode="after")
    def _stale_comes_first(self) -> Self:
        if self.chain_stale_s >= self.chain_hopeless_s:
            raise ValueError(
                f"chain_stale_s: {self.chain_stale_s:g} s must be less than chain_hopeless_s, "
                f"{self.chain_hopeless_s:g} s: the other endpoints are tried in between"
            )
        return self

    @property
    def retention(self) -> RetentionPolicy:
        """What the node's database keeps."""
        return RetentionPolicy(
            ledger_slots=self.retain_slots,
            proof_epochs=self.retain_proof_epochs,
            body_epochs=self.retain_body_epochs,
        )

    @property
    def audit_dir(self) -> Path:
        """Where the audit log's files lie."""
        return self.state_dir / "audit"

    @property
    def module_dir(self) -> Path:
        """Where modules lie that came over the network."""
        return self.state_dir / "modules"

    @property
    def artifact_dir(self) -> Path:
        """Where compiled modules lie."""
        return self.state_dir / "artifacts"


def load_config(path: Path) -> NodeConfig:
    """Read a configuration file; `ConfigError` names the file, the field and what is expected."""
    try:
        values: dict[str, Any] = tomllib.loads(read_text(path, "configuration"))
    except (ValueError, RecursionError) as error:  # no TOML or UTF-8, or beyond Python's limits
        raise ConfigError(f"configuration {path}: {error}") from error
    for name in values:
        if name not in NodeConfig.model_fields:
            near = difflib.get_close_matches(name, NodeConfig.model_fields, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"configuration {path}: {name}: there is no such setting{meant}")
    replaced = from_environment(NodeConfig.model_fields, os.environ)
    values |= replaced
    for name in PATHS:
        value = values.get(name)
        if isinstance(value, str):
            if not value or "\0" in value:
                raise ConfigError(f"configuration {path}: {name}: is no path: {value!r}")
            values[name] = path.parent / value
    try:
        return NodeConfig(**values)
    except ValidationError as error:
        raise ConfigError(_words(error, path, replaced)) from error


def _words(error: ValidationError, path: Path, replaced: Mapping[str, object]) -> str:
    """Return where the first mistake stands and what it is."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])  # empty if about several fields
    if first["loc"] and first["loc"][0] in replaced:
        return f"environment variable {variable_of(str(first['loc'][0]))}: {first['msg']}"
    also = f" (and {', '.join(map(variable_of, replaced))})" if replaced and not field else ""
    what = f"{field}: {first['msg']}" if field else first["msg"]
    return f"configuration {path}{also}: {what}"


def load_genesis(path: Path) -> Genesis:
    """Read a genesis file; `ConfigError` also for one that no network can run from."""
    try:
        genesis: Genesis = decode(Genesis, read_file(path, "genesis", GENESIS_LIMIT_BYTES))
    except DecodeError as error:
        raise ConfigError(f"genesis {path}: {error}") from error
    impossible = why_impossible(genesis)
    if impossible:
        raise ConfigError(f"genesis {path}: no network can run from it: {'; '.join(impossible)}")
    return genesis
