"""The development chain of a test network: its files, and what it held when the network ended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import trio

from chain.interface import WeightVector
from protocol.identity import ss58_of
from protocol.records.genesis import Genesis
from validator_node.testnet.wiring import HOST, free_ports

STALE_S = 30.0
"""Seconds without a new block after which validators look for another endpoint."""
READ_DEADLINE_S = 60.0


@dataclass(frozen=True)
class ChainSite:
    """The development chain's files and ports."""

    folder: Path
    port: int
    admin_port: int
    block_time_s: float

    @property
    def url(self) -> str:
        """Where the validators reach it."""
        return f"ws://{HOST}:{self.port}"

    @property
    def subnet(self) -> Path:
        """The subnet to begin with."""
        return self.folder / "subnet.toml"

    @property
    def log(self) -> Path:
        """Its log file."""
        return self.folder / "devchain.log"

    @property
    def arguments(self) -> list[str]:
        """What comes after `validator-node` to run it."""
        options = {
            "--port": self.port,
            "--admin-port": self.admin_port,
            "--block-time": self.block_time_s,
            "--neurons": self.subnet,
            "--state": self.folder / "state.bin",
        }
        return ["devchain", *(str(part) for pair in options.items() for part in pair)]


def write_chain(folder: Path, genesis: Genesis) -> ChainSite:
    """Write the subnet that the genesis describes, and choose ports."""
    folder.mkdir(parents=True)
    port, admin_port = free_ports(2)
    parameters = genesis.chain
    site = ChainSite(folder, port, admin_port, parameters.block_time_ms / 1000)
    lines = [f"netuid = {parameters.netuid}", f"owner = {json.dumps(ss58_of(genesis.owner))}"]
    rules = {
        "tempo": parameters.tempo,
        "weights_rate_limit": parameters.weights_rate_limit,
        "min_stake": parameters.min_stake,
        "commit_reveal": False,
    }
    lines += ["[rules]", *(f"{name} = {json.dumps(value)}" for name, value in rules.items())]
    for neuron in genesis.neurons:
        lines += [
            "[[neurons]]",
            f"hotkey = {json.dumps(ss58_of(neuron.hotkey))}",
            f"stake = {neuron.stake}",
            f"validator_permit = {json.dumps(neuron.validator_permit)}",
        ]
    site.subnet.write_text("\n".join(lines) + "\n")
    return site


async def read_weights(site: ChainSite, netuid: int, uids: list[int]) -> dict[int, WeightVector]:
    """Return what the running chain stores for each uid, read through the SDK.

    Raises `ChainError`, and `trio.TooSlowError` when it does not answer.
    """
    from chain.bittensor import open_bittensor
    from chain.errors import ChainError

    found: dict[int, WeightVector] = {}
    with trio.fail_after(READ_DEADLINE_S):
        async with open_bittensor((site.url,), netuid, cache_dir=site.folder / "sdk") as chain:
            while len(found) < len(uids):
                try:
                    found |= {uid: await chain.weights_of(uid) for uid in uids if uid not in found}
                except ChainError:  # not connected yet
                    await trio.sleep(site.block_time_s)
    return found
