"""What a node builds from its genesis: the embedded chain and the evaluation modules."""

from __future__ import annotations

import time
from pathlib import Path

from chain.embedded import ChainGenesis, EmbeddedChain, GenesisNeuron
from challenges import examples
from protocol.codec import sha256
from protocol.records.genesis import Genesis
from validator_node.errors import ConfigError


def now_ms() -> int:
    """Return the wall clock in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def embedded_chain(genesis: Genesis, directory: Path) -> EmbeddedChain:
    """Return the embedded chain that the genesis describes."""
    parameters = genesis.chain
    neurons = []
    for position, neuron in enumerate(genesis.neurons):
        if neuron.uid != position:
            raise ConfigError(f"genesis: neuron {position} has uid {neuron.uid}; uids are dense")
        neurons.append(
            GenesisNeuron(
                hotkey=neuron.hotkey,
                stake=neuron.stake,
                validator_permit=neuron.validator_permit,
            )
        )
    chain_genesis = ChainGenesis(
        netuid=parameters.netuid,
        start_ms=parameters.start_ms,
        block_time_ms=parameters.block_time_ms,
        tempo=parameters.tempo,
        neurons=tuple(neurons),
        weights_rate_limit=parameters.weights_rate_limit,
        min_stake=parameters.min_stake,
        owner_hotkey=genesis.owner,
    )
    return EmbeddedChain(chain_genesis, directory, now_ms)


def load_modules(genesis: Genesis) -> dict[bytes, bytes]:
    """Return modules, data blobs and test vectors of the genesis' challenges by hash.

    Raises `ConfigError`, which names a missing one.
    """
    known = {}
    for entry in map(examples.load, examples.names()):
        known[entry.module_hash] = entry.module
        known |= {sha256(blob): blob for blob in (entry.vectors, *entry.blobs.values())}
    for challenge in genesis.challenges:
        wanted = {"module": challenge.module_hash, "test vectors": challenge.vectors}
        wanted |= {f"data blob {blob.key!r}": blob.digest for blob in challenge.policy.data}
        for what, digest in wanted.items():
            if digest not in known:
                raise ConfigError(
                    f"challenge {challenge.challenge_id}: {what} {digest.hex()[:16]} is not "
                    "installed; install the release that has it"
                )
    return known
