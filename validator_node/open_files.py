"""How many files a node opens, and a refusal to start where the system grants fewer.

A node that runs out of them goes on half-dead: it accepts no connection, writes no table, starts no
worker, and says so a hundred times a second. Connections are open files, and most of them.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping

from validator_node.config import NodeConfig
from validator_node.errors import ConfigError
from validator_node.network.limits import Limits

PER_DATABASE = 24
"""LevelDB's lock, logs, manifest, and a compaction's tables; other tables are mapped, not open."""
DATABASES = 2
PER_WORKER = 8
PER_ENDPOINT = 4
DIALLED = 128
"""Connections that this node opens: to validators, to configured peers, and while it looks for
others."""
OTHERS = 64
"""Logs, journal, snapshots being read and sent, the compiler's child, clients of the metrics."""


def needed(config: NodeConfig, limits: Limits) -> dict[str, int]:
    """Return how many open files what part of the node may need."""
    return {
        "connections from others": limits.all_inbound + limits.half_open,
        "connections to others": DIALLED,
        "databases": DATABASES * PER_DATABASE,
        "workers": config.workers * PER_WORKER,
        "chain": len(config.chain_endpoints) * PER_ENDPOINT,
        "everything else": OTHERS,
    }


def ensure_open_files(parts: Mapping[str, int]) -> None:
    """Raise the soft limit to the hard one. Raises `ConfigError` if even that is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = sum(parts.values())
    if hard != resource.RLIM_INFINITY and hard < wanted:
        named = ", ".join(f"{count} for {name}" for name, count in parts.items() if count)
        raise ConfigError(
            f"this process may open {hard} files and needs {wanted} ({named}): raise the limit "
            f"with `ulimit -Hn {wanted}` as root, LimitNOFILE={wanted} in a systemd unit, or "
            f"`--ulimit nofile={wanted}` of a container"
        )
