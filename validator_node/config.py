"""The node's configuration: a TOML file, each value of which an environment variable can replace.

`VALIDATOR_LISTEN_PORT=4001` replaces `listen_port`. Relative paths are relative to the file.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from protocol.codec import decode
from protocol.errors import DecodeError
from protocol.records.genesis import Genesis
from validator_node.errors import ConfigError

GENESIS_LIMIT_BYTES = 4 * 1024 * 1024


class NodeConfig(BaseSettings):
    """How one validator runs."""

    model_config = SettingsConfigDict(env_prefix="VALIDATOR_", extra="forbid", frozen=True)

    genesis: Path
    """The network's genesis file."""
    keystore: Path
    passphrase_file: Path | None = None
    state_dir: Path
    """Database, journal and logs."""
    chain_dir: Path
    """Folder of the embedded chain, shared by the nodes of one machine."""
    listen_host: str = "127.0.0.1"
    listen_port: int = Field(default=0, ge=0, le=65_535)
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=0, ge=0, le=65_535)
    bootstrap: tuple[str, ...] = ()
    """Multiaddrs with peer ids that are kept connected."""
    workers: int = Field(default=2, ge=1, le=64)
    """Evaluation worker processes."""
    evaluation_deadline_ms: int = Field(default=30_000, ge=100, le=3_600_000)
    submissions_per_second: float = Field(default=50.0, gt=0)
    """Intake budget of one hotkey."""
    max_pending: int = Field(default=4096, ge=1)
    """Submissions that may wait for admission here; more are refused as `busy`."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file."""
        return env_settings, init_settings


def load_config(path: Path) -> NodeConfig:
    """Read a configuration file; `ConfigError` names the file, the field and what is expected."""
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path}: {error}") from error
    for name in ("genesis", "keystore", "passphrase_file", "state_dir", "chain_dir"):
        if isinstance(values.get(name), str):
            values[name] = path.parent / values[name]
    try:
        return NodeConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"configuration {path}: {field}: {first['msg']}") from error
    except SettingsError as error:  # a variable of a list's or table's field that is no JSON
        raise ConfigError(f"configuration {path} and environment: {error}") from error


def load_genesis(path: Path) -> Genesis:
    """Read a genesis file."""
    try:
        return decode(Genesis, path.read_bytes(), limit_bytes=GENESIS_LIMIT_BYTES)
    except OSError as error:
        raise ConfigError(f"genesis {path}: {error.strerror}") from error
    except DecodeError as error:
        raise ConfigError(f"genesis {path}: {error}") from error
